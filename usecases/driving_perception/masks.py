"""Masks: reading from files, resizing and painting."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from usecases.driving_perception.frames import Source
from usecases.driving_perception.scenes import IGNORED
from usecases.images import UnusableImage

BLEND = 0.45  # opacity of the mask over the image
GOLDEN = 0.618033988749895  # of the colour wheel between the hues of successive classes, so that they differ well


def read_mask(data: bytes, source: Source) -> tuple[np.ndarray, dict[str, int]]:
    """The number of each pixel's class, or 255, uint8 [H, W], and the number of pixels of each value or colour that belongs to no class.

    Raises:
        UnusableImage: the file is empty, damaged, or not an image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            coloured = image.mode in ("RGB", "RGBA") or (image.mode == "P" and bool(source.colours) and source.values is None)
            pixels = np.asarray(image.convert("RGB") if coloured else image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnusableImage(f"the mask is not an image, or it is damaged: {error}") from None
    return _of_colours(pixels, source) if pixels.ndim == 3 else _of_values(pixels, source)


def _of_colours(pixels: np.ndarray, source: Source) -> tuple[np.ndarray, dict[str, int]]:
    packed = pixels[..., 0].astype(np.int64) << 16 | pixels[..., 1].astype(np.int64) << 8 | pixels[..., 2]
    if (pixels == pixels[..., :1]).all() and not source.colours:  # numbers of classes that were saved as grey RGB
        return _of_values(pixels[..., 0], source)
    known = {red << 16 | green << 8 | blue: number for (red, green, blue), number in source.colours.items()}
    return _numbered(packed, known, lambda value: f"colour {value >> 16} {value >> 8 & 255} {value & 255}")


def _of_values(pixels: np.ndarray, source: Source) -> tuple[np.ndarray, dict[str, int]]:
    return _numbered(pixels.astype(np.int64), source.values or {}, lambda value: f"value {value}")


def _numbered(pixels: np.ndarray, known: dict[int, int], called: object) -> tuple[np.ndarray, dict[str, int]]:
    assert callable(called)
    values, place, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    numbers = np.array([known.get(int(value), IGNORED) for value in values], dtype=np.uint8)
    unknown = {
        str(called(int(value))): int(count)
        for value, count in zip(values, counts, strict=True)
        if int(value) not in known and int(value) != IGNORED
    }
    return numbers[place.reshape(pixels.shape)], unknown


def resized(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize a mask by nearest-neighbour interpolation, since numbers of classes cannot be averaged.

    Args:
        mask: uint8 [H, W].
        width: in pixels.
        height: in pixels.

    Returns:
        uint8 [height, width].
    """
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def colours(count: int) -> list[tuple[int, int, int]]:
    """Well distinguishable colours for classes without colours of their own."""
    found = []
    for number in range(count):
        hue = (number * GOLDEN) % 1.0
        picture = Image.new("HSV", (1, 1), (round(255 * hue), 150 + 100 * (number % 2), 230 - 70 * (number // 2 % 2)))
        pixel = picture.convert("RGB").getpixel((0, 0))
        assert isinstance(pixel, tuple)
        found.append((int(pixel[0]), int(pixel[1]), int(pixel[2])))
    return found


def painted(mask: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Paint a mask, uint8 [H, W] to uint8 [H, W, 3]; pixels of no class are black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    return table[mask]


def blended(picture: Image.Image, mask: np.ndarray, palette: Sequence[Sequence[int]]) -> Image.Image:
    """Blend an image with its mask.

    Args:
        picture: the image.
        mask: numbers of classes, [H, W], of the image's size.
        palette: red, green and blue of each class.

    Returns:
        The blended image, RGB.
    """
    return Image.blend(picture.convert("RGB"), Image.fromarray(painted(mask.astype(np.uint8), palette)), BLEND)
