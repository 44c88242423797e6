"""What was seen, drawn over the picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from usecases.driving_perception.masks import painted

BLEND = 0.45  # of the mask over the picture
TEXT = 0.035  # height of letters, as a share of the picture's
INK = {"keep": (40, 170, 90), "slow": (230, 150, 20), "stop": (215, 45, 45)}


def overlay(picture: Image.Image, answer: dict[str, Any], card: dict[str, Any]) -> Image.Image:
    """The picture under the mask, the boxes, the steering, the sign and the advice of an answer of `codec.RoadCodec`."""
    drawn = picture.convert("RGB")
    if "mask" in answer:
        with Image.open(io.BytesIO(base64.b64decode(answer["mask"]))) as mask:
            drawn = blended(drawn, np.asarray(mask), card["colours"])
    paint = dict(zip(card.get("objects", ()), card.get("object_colours", ()), strict=True))
    boxes = [(box["label"], f"{box['label']} {box['score']:.0%}", box["box"]) for box in answer.get("boxes", ())]
    outline(drawn, [(tuple(paint[label]), word, sides) for label, word, sides in boxes])
    if "steering" in answer:
        _needle(drawn, answer["steering"])
    advice = answer["advice"]
    seen = f"{answer['signal']} {answer['signal_probability']:.0%}" if "signal" in answer else ""
    _caption(drawn, ": ".join(filter(None, [seen, advice["action"], ", ".join(advice["reasons"])])), INK[advice["action"]])
    return drawn


def blended(picture: Image.Image, mask: np.ndarray, palette: Sequence[Sequence[int]]) -> Image.Image:
    colours = Image.fromarray(painted(mask.astype(np.uint8), palette))
    return Image.blend(picture.convert("RGB"), colours, BLEND)


def outline(picture: Image.Image, boxes: Sequence[tuple[tuple[int, ...], str, Sequence[float]]]) -> None:
    """Draw boxes (colour, words, sides in pixels) into a picture."""
    brush, font = ImageDraw.Draw(picture), _font(picture)
    thick = max(1, picture.height // 240)
    for colour, words, (left, top, right, bottom) in boxes:
        brush.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=thick)
        place = brush.textbbox((left, max(0, top - font.size * 1.2)), words, font=font)
        brush.rectangle(place, fill=colour)
        brush.text(place[:2], words, fill=_readable_on(colour), font=font, anchor="la")


def _needle(picture: Image.Image, steering: float) -> None:
    width, height = picture.size
    foot, length = (width / 2, height * 0.98), height * 0.22
    turn = float(np.clip(steering, -1, 1)) * np.pi / 3
    tip = (foot[0] + length * np.sin(turn), foot[1] - length * np.cos(turn))
    ImageDraw.Draw(picture).line([foot, tip], fill=(255, 255, 255), width=max(2, height // 90))


def _caption(picture: Image.Image, words: str, colour: tuple[int, int, int]) -> None:
    brush, font = ImageDraw.Draw(picture), _font(picture)
    left, top, right, bottom = brush.textbbox((font.size * 0.5, font.size * 0.4), words, font=font)
    brush.rectangle((left - font.size * 0.3, top - font.size * 0.2, right + font.size * 0.3, bottom + font.size * 0.2), fill=colour)
    brush.text((font.size * 0.5, font.size * 0.4), words, fill=(255, 255, 255), font=font)


def _font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(max(9, round(TEXT * picture.height)))
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _readable_on(colour: Sequence[int]) -> tuple[int, int, int]:
    return (0, 0, 0) if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 140 else (255, 255, 255)
