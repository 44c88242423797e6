"""Masks between files and numbers of classes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from usecases.driving_perception.frames import Source
from usecases.driving_perception.scenes import IGNORED
from usecases.images import UnusableImage

BLEND = 0.45  # of the mask over the picture
GOLDEN = 0.618033988749895  # turns of the colour wheel between neighbours: no two of them look alike


def read_mask(data: bytes, source: Source) -> tuple[np.ndarray, dict[str, int]]:
    """The number of each pixel's class or 255, uint8 [H, W], and how many pixels have which unknown value or colour.

    Raises:
        UnusableImage: empty, damaged, or no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            coloured = image.mode in ("RGB", "RGBA") or (image.mode == "P" and bool(source.colours) and source.values is None)
            pixels = np.asarray(image.convert("RGB") if coloured else image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnusableImage(f"the mask is no image, or a damaged one: {error}") from None
    return _of_colours(pixels, source) if pixels.ndim == 3 else _of_values(pixels, source)


def _of_colours(pixels: np.ndarray, source: Source) -> tuple[np.ndarray, dict[str, int]]:
    packed = pixels[..., 0].astype(np.int64) << 16 | pixels[..., 1].astype(np.int64) << 8 | pixels[..., 2]
    if (pixels == pixels[..., :1]).all() and not source.colours:  # an index that was saved in colour
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
    """The nearest pixel's class: between two classes there is none."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def colours(count: int) -> list[tuple[int, int, int]]:
    """Colours for classes that have none of their own, far from each other."""
    found = []
    for number in range(count):
        hue = (number * GOLDEN) % 1.0
        picture = Image.new("HSV", (1, 1), (round(255 * hue), 150 + 100 * (number % 2), 230 - 70 * (number // 2 % 2)))
        pixel = picture.convert("RGB").getpixel((0, 0))
        assert isinstance(pixel, tuple)
        found.append((int(pixel[0]), int(pixel[1]), int(pixel[2])))
    return found


def painted(mask: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """uint8 [H, W] to uint8 [H, W, 3]; what belongs to no class is black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    return table[mask]


def blended(picture: Image.Image, mask: np.ndarray, palette: Sequence[Sequence[int]]) -> Image.Image:
    """A picture under a mask in its colours."""
    return Image.blend(picture.convert("RGB"), Image.fromarray(painted(mask.astype(np.uint8), palette)), BLEND)
