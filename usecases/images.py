"""From image files to pixels. Training and serving share this code, so that they cannot differ."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.contract.errors import BundleError

MAX_PIXELS = 64_000_000  # of one image; a larger one is a mistake or an attack
MAX_BYTES = 200_000_000
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".tif", ".tiff"})


class UnusableImage(ValueError):
    """An image cannot be used; the message is the reason, to be shown after the name of the file."""


def decode(data: bytes) -> Image.Image:
    """Decode an image to mode L or RGB: EXIF rotation applied, transparency on white, 16 bits scaled to 8.

    Of an animation only the first frame is read.

    Raises:
        UnusableImage: the file is empty, truncated, not an image, or too large.
    """
    if not data:
        raise UnusableImage("the file is empty")
    if len(data) > MAX_BYTES:
        raise UnusableImage(f"{len(data):,} bytes are more than the limit of {MAX_BYTES:,}")
    try:
        with warnings.catch_warnings(action="ignore"):
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise UnusableImage(f"{image.width} x {image.height} pixels are more than the limit of {MAX_PIXELS:,}")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # a copy of a large one would need as much memory again
            return _plain(image)
    except UnidentifiedImageError:
        raise UnusableImage("this is not an image, or its format is unknown") from None
    except UnusableImage:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise UnusableImage(f"the image is damaged: {error}") from None


def read_file(argument: str) -> bytes:
    """The bytes of an image file. Raises `BundleError`: there is no such file."""
    try:
        return Path(argument).read_bytes()
    except OSError as error:
        raise BundleError(f"The image {argument} cannot be read: {error.strerror}.") from None


def requested(requests: Sequence[bytes]) -> list[Image.Image]:
    """The decoded images of requests. Raises `BundleError`: one of them is not an image, damaged or too large."""
    images = []
    for number, request in enumerate(requests, 1):
        if not isinstance(request, bytes):
            raise BundleError(f"Image {number} of the request is {type(request).__name__}, not the bytes of an image file.")
        try:
            images.append(decode(request))
        except UnusableImage as reason:
            raise BundleError(f"Image {number} of the request cannot be used: {reason}.") from None
    return images


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_bytes(np.asarray(image, dtype=np.float64)))
    if image.mode == "LA" or (image.mode == "P" and "transparency" in image.info) or "A" in image.getbands():
        return _on_white(image.convert("RGBA"), grey=image.mode == "LA")
    return image.convert("RGB")


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """16-bit and float images scaled to uint8 from the range that they use: 0..1, 0..255 or 0..65535."""
    most = values.max(initial=0)
    full = 1.0 if most <= 1 else 255.0 if most <= 255 else 65535.0
    return np.clip(np.rint(values * (255 / full)), 0, 255).astype(np.uint8)


def _on_white(image: Image.Image, grey: bool) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("L" if grey else "RGB")


def to_pixels(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """Resize the whole image to a square, with antialiasing; an image of that size is not resampled.

    A centre crop would keep the aspect ratio, but lose what may decide the class: the red of a traffic light is at its end.

    Args:
        image: of any mode.
        size: pixels to a side.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8 [channels, size, size].
    """
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def as_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def has_colour(image: Image.Image) -> bool:
    """Whether any pixel is not grey, at 16 x 16 pixels: the noise of a JPEG does not count as colour."""
    if image.mode == "L":
        return False
    small = np.asarray(image.resize((16, 16), Image.Resampling.BOX), dtype=np.int16)
    return bool((small.max(axis=2) - small.min(axis=2)).max() > 8)
