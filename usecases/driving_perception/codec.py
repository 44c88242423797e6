"""Conversion between requests, tensors and answers. Uses NumPy and Pillow only, since it runs in the server."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from tasks.contract.blocks import AnswerBlock
from tasks.contract.codec import Takes
from tasks.contract.errors import BundleError
from tasks.contract.types import Arrays
from usecases.driving_perception.advice import advise
from usecases.driving_perception.answer_blocks import answer_blocks
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.scenes import MAX_SPEED, conditioning_counts, read_card, to_pixels, with_indicators
from usecases.driving_perception.yaw import same_shape, strip, yaw_between
from usecases.images import read_file, requested

DARK, BLANK, BLURRED = 12.0, 6.0, 2.0  # grey levels: mean, deviation, and mean difference of neighbours, below which an image is doubted
SAME_SHAPE = 0.25  # largest relative difference of the aspect ratio from those of the training images
KEYS = ("b64", "speed", "before")  # of a request in JSON


class RoadCodec:
    """Requests are the bytes of an image file, or a JSON object with the image and conditioning inputs.

    The object is `{"b64": the image in base64, "speed": number, "before": [the images of the preceding moments in base64, oldest first]}`,
    where `speed` and `before` may be omitted. Answers are in pixels of the image of the request; see `decode`.
    """

    takes: ClassVar[Takes] = "image"
    padding: Mapping[str, int] = {}

    def __init__(self, assets: Path) -> None:
        self.card = read_card(assets)
        self.width, self.height = int(self.card["width"]), int(self.card["height"])
        self.counts = conditioning_counts(self.card)

    def read(self, argument: str) -> Any:
        """Read a request from an image file or a JSON file. Raises `BundleError`: there is no such file, or it is not JSON."""
        content = read_file(argument)
        if not argument.lower().endswith(".json"):
            return content
        try:
            return json.loads(content)
        except ValueError as error:
            raise BundleError(f"{argument} is not JSON: {error}.") from None

    def images(self, requests: Sequence[Any]) -> list[Image.Image]:
        """The images of requests. Raises `BundleError`: one of them is not an image, damaged or too large."""
        return requested([unpacked(request).image for request in requests])

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """The inputs of the network: image uint8 [B, 3, height, width], and speed and turn (yaw rates), float32, if it has them.

        Raises:
            BundleError: a request is invalid, see `images` and `unpacked`.
        """
        asked = [unpacked(request) for request in requests]
        images = requested([one.image for one in asked])
        arrays = {"image": np.stack([to_pixels(image, self.width, self.height) for image in images])}
        if "speed" in self.counts:
            arrays["speed"] = np.stack([with_indicators([one.speed], 1) for one in asked])
        if count := self.counts.get("turn"):
            arrays["turn"] = np.stack(
                [with_indicators(_yaw_rates(one.before[-count:], image), count) for one, image in zip(asked, images, strict=True)]
            )
        return arrays

    def decode(self, outputs: Arrays, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """`{"trusted", "doubts": [sentence], "advice": {"action": keep, slow or stop, "reasons", "drivable", "nearest"}, "width", "height"}`, and the fields of each head, see `heads.head.Head.answer`."""
        images = self.images(requests)
        return [self._answer(image, {name: array[row] for name, array in outputs.items()}) for row, image in enumerate(images)]

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """The advice, the image with the answer drawn over it, and the blocks of each head."""
        (image,) = self.images([request])
        return answer_blocks(image, answer, self.card)

    def _answer(self, picture: Image.Image, outputs: Arrays) -> dict[str, Any]:
        doubts = doubts_of(picture, self.card["ratios"])
        answers: dict[str, Any] = {}
        known: dict[str, Any] = {}
        for head in (HEADS[name] for name in self.card["heads"]):
            answer, own_doubts = head.answer(outputs, picture, self.card)
            doubts += own_doubts
            answers |= answer
            known |= head.advice(outputs, answer, picture, self.card)
        advice = advise(**known, trusted=not doubts)
        return {
            "trusted": not doubts,
            "doubts": doubts,
            "advice": {
                "action": advice.action,
                "reasons": list(advice.reasons),
                "drivable": _rounded(advice.drivable),
                "nearest": _rounded(advice.nearest),
            },
            "width": picture.width,
            "height": picture.height,
            **answers,
        }


class Request(NamedTuple):
    """A parsed request: the bytes of an image, the speed if it is given, and the images of the preceding moments, oldest first."""

    image: Any
    speed: float | None = None
    before: tuple[bytes, ...] = ()


def unpacked(request: Any) -> Request:
    """Parse a request.

    Raises:
        BundleError: an object with other keys, invalid base64, or a speed that is not a number or out of range.
    """
    if not isinstance(request, dict):
        return Request(request)
    image, speed, before = (request.get(key) for key in KEYS)
    before = [before] if isinstance(before, str) else [] if before is None else before
    pictures: list[Any] = [image, *before] if isinstance(before, list) else [None]
    if request.keys() - set(KEYS) or not all(isinstance(one, str) for one in pictures):
        raise BundleError(
            'The request should be an image, or {"b64": an image in base64, "speed": a number, '
            '"before": [the images of the preceding moments in base64, oldest first]}.'
        )
    if speed is not None and (isinstance(speed, bool) or not isinstance(speed, int | float) or not abs(speed) <= MAX_SPEED):
        raise BundleError(f"The speed {speed!r:.40} is not a number from -{MAX_SPEED:g} to {MAX_SPEED:g}.")
    return Request(_from_base64(pictures[0], "b64"), speed, tuple(_from_base64(one, "before") for one in pictures[1:]))


def _from_base64(text: str, key: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BundleError(f"The value of {key!r} is not base64.") from None


def _yaw_rates(before: Sequence[bytes], image: Image.Image) -> list[float]:
    """Yaw rates between successive images, the latest first. Raises `BundleError`: an image cannot be used, or has another aspect ratio."""
    if not before:
        return []
    strips = [_strip_before(one, image) for one in before]  # decoded one by one, since each may be large
    return [yaw_between(old, new) for old, new in pairwise([*strips, strip(image)])][::-1]


def _strip_before(before: bytes, image: Image.Image) -> np.ndarray:
    (earlier,) = requested([before])
    if not same_shape(earlier, image):
        sizes = [f"{one.width} x {one.height}" for one in (earlier, image)]
        raise BundleError(
            f"A preceding image is {sizes[0]}, the image {sizes[1]}: both must have the same aspect ratio, as images of one camera do."
        )
    return strip(earlier)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def doubts_of(image: Image.Image, ratios: Sequence[float]) -> list[str]:
    """Reasons to doubt any answer about an image, a sentence each: it is blank, too dark, blurred, or has an unusual aspect ratio.

    `ratios` are those of the training images (width / height). They are empty for networks of crops, which have any aspect ratio and look
    blurred because they are small.
    """
    grey = np.asarray(image.convert("L").resize((160, 120), Image.Resampling.BOX), dtype=np.float64)
    doubts = []
    if grey.std() < BLANK:
        doubts.append("the image is blank")
    elif grey.mean() < DARK:
        doubts.append("the image is too dark")
    elif ratios and (np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2 < BLURRED:
        doubts.append("the image is blurred")
    if ratios and all(abs(image.width / image.height / ratio - 1) > SAME_SHAPE for ratio in ratios):
        doubts.append(f"the image is {image.width} x {image.height}, an aspect ratio that the training images do not have")
    return doubts
