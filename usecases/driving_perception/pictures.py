"""Small tools for the pictures that heads draw. NumPy and Pillow only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFont

from usecases import charts

SHOWN = 6  # pictures of a gallery in the report
WIDE = 480  # pixels of the longer side of a picture in the report
TEXT = 0.035  # height of letters, as a share of the picture's


def as_picture(image: np.ndarray) -> Image.Image:
    """uint8 [3, H, W] as a picture of its own."""
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def one_above_other(pictures: Sequence[Image.Image]) -> str:
    """Pictures of one width as one, for the report."""
    return charts.picture(np.concatenate([np.asarray(picture) for picture in pictures]), WIDE)


def font_for(picture: Image.Image) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(max(9, round(TEXT * picture.height)))
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def readable_on(colour: Sequence[int]) -> tuple[int, int, int]:
    """Black or white."""
    return (0, 0, 0) if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 140 else (255, 255, 255)


def hexadecimal(colour: Sequence[int]) -> str:
    """Red, green and blue as a page writes them, such as #ff8800."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
