"""Blocks that show an answer, head by head. Uses NumPy and Pillow only, since it runs in the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from tasks.contract.blocks import AnswerBlock, Note, Overlay
from usecases import charts
from usecases.driving_perception.drawing import overlay
from usecases.driving_perception.heads.table import HEADS

MAX_SIDE = 1600  # pixels of the longer side of a picture


def answer_blocks(image: Image.Image, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
    """The blocks of an answer of `codec.RoadCodec`.

    Args:
        image: of the request.
        answer: with its explanation, if it was explained.
        card: `assets/scene.json`.

    Returns:
        The advice, the image with the answer drawn over it, and the blocks of each head.
    """
    blocks = [*advice_blocks(answer), *picture_blocks(image, answer, card)]
    return blocks + [block for name in card["heads"] for block in HEADS[name].blocks(answer, card)]


def advice_blocks(answer: Mapping[str, Any]) -> list[AnswerBlock]:
    """The advice, and before it the reasons to doubt the answer, if there are any."""
    advice = Note(kind="note", title=f"Advice: {answer['advice']['action']}", text=sentence(answer["advice"]["reasons"]))
    if answer["trusted"]:
        return [advice]
    return [Note(kind="note", title="This answer is not reliable", text=sentence(answer["doubts"]), warning=True), advice]


def picture_blocks(image: Image.Image, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
    """The image with the answer drawn over it; none for crops of signs and lights, whose probability bars are enough.

    Args:
        image: of the request.
        answer: with its explanation, if it was explained.
        card: `assets/scene.json`.

    Returns:
        A block of kind overlay, or none.
    """
    if all(HEADS[name].crops for name in card["heads"]):
        return []
    drawn = answer.get("explanation", {}).get("overlay") or charts.picture(np.asarray(overlay(image, dict(answer), dict(card))), MAX_SIDE)
    return [Overlay(kind="overlay", title="Predictions", image=drawn, items=[])]


def sentence(parts: list[str]) -> str:
    """Join parts to a sentence; empty without parts."""
    joined = "; ".join(parts)
    return f"{joined[:1].upper()}{joined[1:]}." if joined else ""
