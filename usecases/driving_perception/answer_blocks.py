"""What a person sees of an answer about a frame, head by head. NumPy and Pillow only, since it runs in the server."""

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
    """Blocks of an answer of `codec.RoadCodec` about an image, with its explanation where it has one."""
    blocks = [*advice_blocks(answer), *picture_blocks(image, answer, card)]
    return blocks + [block for name in card["heads"] for block in HEADS[name].blocks(answer, card)]


def advice_blocks(answer: Mapping[str, Any]) -> list[AnswerBlock]:
    """The advice, and before it why the frame is doubted."""
    advice = Note(kind="note", title=f"Advice: {answer['advice']['action']}", text=sentence(answer["advice"]["reasons"]))
    if answer["trusted"]:
        return [advice]
    return [Note(kind="note", title="This answer is not to be trusted", text=sentence(answer["doubts"]), warning=True), advice]


def picture_blocks(image: Image.Image, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
    """The frame with everything drawn over it, unless it is a cut-out, whose bars say all."""
    if all(HEADS[name].cut_outs for name in card["heads"]):
        return []
    drawn = answer.get("explanation", {}).get("overlay") or charts.picture(np.asarray(overlay(image, dict(answer), dict(card))), MAX_SIDE)
    return [Overlay(kind="overlay", title="What the network sees", image=drawn, items=[])]


def sentence(parts: list[str]) -> str:
    joined = "; ".join(parts)
    return f"{joined[:1].upper()}{joined[1:]}." if joined else ""
