"""Helpers of the heads for drawing. Use NumPy and Pillow only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFont

from usecases import charts

SHOWN = 6  # images of a gallery in the report
WIDE = 480  # pixels of the longer side of an image in the report
TEXT = 0.035  # font size, as a share of the image's height


def as_picture(image: np.ndarray) -> Image.Image:
    """A Pillow image of pixels, uint8 [3, H, W]."""
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def one_above_other(pictures: Sequence[Image.Image]) -> str:
    """Stack images of one width vertically, as a data URI for the report."""
    return charts.picture(np.concatenate([np.asarray(picture) for picture in pictures]), WIDE)


def font_for(picture: Image.Image) -> ImageFont.FreeTypeFont:
    """A font in proportion to the height of an image."""
    font = ImageFont.load_default(max(9, round(TEXT * picture.height)))
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def readable_on(colour: Sequence[int]) -> tuple[int, int, int]:
    """Black or white, whichever contrasts with the background `colour`."""
    return (0, 0, 0) if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 140 else (255, 255, 255)


def hexadecimal(colour: Sequence[int]) -> str:
    """A colour as HTML writes it, such as #ff8800."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
