"""What a person sees of an answer about a frame: a function for each head. NumPy and Pillow only, since it runs in the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from tasks.contract.blocks import AnswerBlock, Gauge, Note, Overlay, Region, probability_bars
from usecases import charts
from usecases.driving_perception.drawing import overlay

MAX_SIDE = 1600  # pixels of the longer side of a picture
FULL_LOCK = 1.0  # steering that fills the gauge, unless the driver's own numbers are larger


def answer_blocks(image: Image.Image, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
    """Blocks of an answer of `codec.RoadCodec` about an image, with its explanation where it has one."""
    return [
        *advice_blocks(answer),
        *picture_blocks(image, answer, card),
        *mask_blocks(answer, card),
        *box_blocks(answer, card),
        *steering_blocks(answer),
        *signal_blocks(answer),
    ]


def advice_blocks(answer: Mapping[str, Any]) -> list[AnswerBlock]:
    """The advice, and before it why the frame is doubted."""
    advice = Note(kind="note", title=f"Advice: {answer['advice']['action']}", text=sentence(answer["advice"]["reasons"]))
    if answer["trusted"]:
        return [advice]
    return [Note(kind="note", title="This answer is not to be trusted", text=sentence(answer["doubts"]), warning=True), advice]


def picture_blocks(image: Image.Image, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
    """The frame with everything drawn over it, and where the network is unsure if the answer was explained."""
    if not {"mask", "boxes", "steering"} & answer.keys():
        return []  # what a small cutting of a sign shows is named by bars
    explanation = answer.get("explanation", {})
    drawn = explanation.get("overlay") or charts.picture(np.asarray(overlay(image, dict(answer), dict(card))), MAX_SIDE)
    blocks: list[AnswerBlock] = [Overlay(kind="overlay", title="What the network sees", image=drawn, items=[])]
    if "unsure" in explanation:
        caption = "The brighter, the less sure the network is of the class."
        blocks.append(Overlay(kind="overlay", title="Uncertainty", caption=caption, image=explanation["unsure"], items=[]))
    return blocks


def mask_blocks(answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
    """The legend of the mask: classes by their share of the image."""
    if "shares" not in answer:
        return []
    paint = dict(zip(card["classes"], card["colours"], strict=True))
    items = [Region(label=name, value=share, colour=hexadecimal(paint[name])) for name, share in answer["shares"].items()]
    caption = f"Share of the image by class; confidence {answer['confidence']:.0%} on average."
    return [Overlay(kind="overlay", title="Classes", caption=caption, items=items)]


def box_blocks(answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
    """The boxes with their confidences, the most confident first."""
    if "boxes" not in answer:
        return []
    paint = dict(zip(card["objects"], card["object_colours"], strict=True))
    items = [
        Region(label=box["label"], value=box["score"], colour=hexadecimal(paint[box["label"]]), box=box["box"]) for box in answer["boxes"]
    ]
    if not items:
        return [Note(kind="note", title="No objects")]
    return [Overlay(kind="overlay", title="Objects", caption="Confidence of each box.", items=items)]


def steering_blocks(answer: Mapping[str, Any]) -> list[AnswerBlock]:
    """A gauge of the steering, and of the throttle where it was recorded."""
    ends = {"steering": ["left", "right"], "throttle": []}
    return [_gauge(name, answer[name], answer[f"{name}_deviation"], sides) for name, sides in ends.items() if name in answer]


def signal_blocks(answer: Mapping[str, Any]) -> list[AnswerBlock]:
    """The likeliest signs or lights."""
    return [probability_bars(answer["signal"], answer["signals"].items())] if "signal" in answer else []


def _gauge(name: str, value: float, deviation: float, ends: list[str]) -> Gauge:
    limit = max(FULL_LOCK, abs(value))
    return Gauge(kind="gauge", title=name.capitalize(), value=value, deviation=deviation, low=-limit, high=limit, ends=ends)


def sentence(parts: list[str]) -> str:
    joined = "; ".join(parts)
    return f"{joined[:1].upper()}{joined[1:]}." if joined else ""


def hexadecimal(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
