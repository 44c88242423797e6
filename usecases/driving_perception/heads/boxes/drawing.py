"""Drawing of boxes."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from usecases.driving_perception.pictures import font_for, readable_on


def outline(picture: Image.Image, boxes: Sequence[tuple[tuple[int, ...], str, Sequence[float]]]) -> None:
    """Draw boxes (colour, text, sides in pixels) into an image."""
    brush, font = ImageDraw.Draw(picture), font_for(picture)
    thick = max(1, picture.height // 240)
    for colour, text, (left, top, right, bottom) in boxes:
        brush.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=thick)
        place = brush.textbbox((left, max(0, top - font.size * 1.2)), text, font=font)
        brush.rectangle(place, fill=colour)
        brush.text(place[:2], text, fill=readable_on(colour), font=font, anchor="la")
