"""Drawing of an answer over its image."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw

from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.pictures import font_for

INK = {"keep": (40, 170, 90), "slow": (230, 150, 20), "stop": (215, 45, 45)}


def overlay(picture: Image.Image, answer: dict[str, Any], card: dict[str, Any]) -> Image.Image:
    """Draw an answer over its image: the predictions of each head, and the advice.

    Args:
        picture: the image of the request.
        answer: of `codec.RoadCodec`.
        card: `assets/scene.json`.

    Returns:
        The drawn image, RGB.
    """
    drawn, heads = picture.convert("RGB"), [HEADS[name] for name in card["heads"]]
    for head in heads:
        drawn = head.draw(drawn, answer, card)
    advice = answer["advice"]
    parts = [*(head.caption(answer) for head in heads), advice["action"], ", ".join(advice["reasons"])]
    _caption(drawn, ": ".join(filter(None, parts)), INK[advice["action"]])
    return drawn


def _caption(picture: Image.Image, text: str, colour: tuple[int, int, int]) -> None:
    brush, font = ImageDraw.Draw(picture), font_for(picture)
    left, top, right, bottom = brush.textbbox((font.size * 0.5, font.size * 0.4), text, font=font)
    brush.rectangle((left - font.size * 0.3, top - font.size * 0.2, right + font.size * 0.3, bottom + font.size * 0.2), fill=colour)
    brush.text((font.size * 0.5, font.size * 0.4), text, fill=(255, 255, 255), font=font)
