"""Between a picture of a road and the network; NumPy and Pillow only, since it runs in the server."""

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
from usecases.driving_perception.scenes import FASTEST, counts_told, read_card, to_pixels, told
from usecases.driving_perception.turning import same_shape, strip, turn_between
from usecases.images import read_file, requested

DARK, BLANK, BLURRED = 12.0, 6.0, 2.0  # mean, deviation and mean difference of neighbours in grey levels, below which a frame is doubted
SAME_SHAPE = 0.25  # relative difference of the sides' ratio from that of the training images
KEYS = ("b64", "speed", "before")  # of a request that is more than an image


class RoadCodec:
    """Requests are the bytes of an image file, or `{"b64": of it, "speed": number, "before": [of the moments before, oldest first]}` where the network is told the speed and the turns; answers say what is in it, in pixels of the image itself, what to do, and whether to trust it."""

    takes: ClassVar[Takes] = "image"
    padding: Mapping[str, int] = {}

    def __init__(self, assets: Path) -> None:
        self.card = read_card(assets)
        self.width, self.height = int(self.card["width"]), int(self.card["height"])
        self.counts = counts_told(self.card)

    def read(self, argument: str) -> Any:
        """An image file, or one of JSON with an image, the speed and the images before. Raises `BundleError`: no such file, or no JSON."""
        content = read_file(argument)
        if not argument.lower().endswith(".json"):
            return content
        try:
            return json.loads(content)
        except ValueError as error:
            raise BundleError(f"{argument} is no JSON: {error}.") from None

    def images(self, requests: Sequence[Any]) -> list[Image.Image]:
        """The pictures of requests. Raises `BundleError`: one of them is no image, damaged or too large."""
        return requested([unpacked(request).image for request in requests])

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """image uint8 [B, 3, height, width], and where the network is told them speed and turn float32, see `scenes.told`. Raises `BundleError`: see `images` and `unpacked`."""
        asked = [unpacked(request) for request in requests]
        images = requested([one.image for one in asked])
        arrays = {"image": np.stack([to_pixels(image, self.width, self.height) for image in images])}
        if "speed" in self.counts:
            arrays["speed"] = np.stack([told([one.speed], 1) for one in asked])
        if count := self.counts.get("turn"):
            arrays["turn"] = np.stack([told(_turns(one.before[-count:], image), count) for one, image in zip(asked, images, strict=True)])
        return arrays

    def decode(self, outputs: Arrays, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """`{"trusted", "doubts": [sentence], "advice": {"action": keep, slow or stop, "reasons", "drivable", "nearest"}, "width", "height"}`, and what each head answers, see `heads.head.Head.answer`."""
        images = self.images(requests)
        return [self._answer(image, {name: array[row] for name, array in outputs.items()}) for row, image in enumerate(images)]

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """The advice, the image with what was found drawn over it, and the numbers of each head."""
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


class Asked(NamedTuple):
    """The bytes of a picture, the speed where it is known, and the pictures of the moments before, oldest first."""

    image: Any
    speed: float | None = None
    before: tuple[bytes, ...] = ()


def unpacked(request: Any) -> Asked:
    """What a request holds.

    Raises:
        BundleError: an object with something else, no base64, or a speed that is no number.
    """
    if not isinstance(request, dict):
        return Asked(request)
    image, speed, before = (request.get(key) for key in KEYS)
    before = [before] if isinstance(before, str) else [] if before is None else before
    pictures: list[Any] = [image, *before] if isinstance(before, list) else [None]
    if request.keys() - set(KEYS) or not all(isinstance(one, str) for one in pictures):
        raise BundleError(
            'The request should be an image, or {"b64": an image in base64, "speed": a number, '
            '"before": [the images of the moments before in base64, oldest first]}.'
        )
    if speed is not None and (isinstance(speed, bool) or not isinstance(speed, int | float) or not abs(speed) <= FASTEST):
        raise BundleError(f"The speed {speed!r:.40} is no number from -{FASTEST:g} to {FASTEST:g}.")
    return Asked(_from_base64(pictures[0], "b64"), speed, tuple(_from_base64(one, "before") for one in pictures[1:]))


def _from_base64(text: str, key: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BundleError(f"The text under {key} is no base64.") from None


def _turns(before: Sequence[bytes], image: Image.Image) -> list[float]:
    """The latest first. Raises `BundleError`: one of the pictures before is no image, or of another shape."""
    if not before:
        return []
    strips = [_strip_beside(one, image) for one in before]  # one after the other, since each may be large
    return [turn_between(old, new) for old, new in pairwise([*strips, strip(image)])][::-1]


def _strip_beside(before: bytes, image: Image.Image) -> np.ndarray:
    (earlier,) = requested([before])
    if not same_shape(earlier, image):
        sizes = [f"{one.width} x {one.height}" for one in (earlier, image)]
        raise BundleError(f"An image before is {sizes[0]}, the image {sizes[1]}: both should be of one camera, though they may be reduced.")
    return strip(earlier)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def doubts_of(image: Image.Image, ratios: Sequence[float]) -> list[str]:
    """In words what speaks against trusting any answer about a frame: too dark, blank, blurred, or of none of the shapes `ratios` (width by height).

    Without ratios it is a cutting, which may be of any shape, and small enough to look blurred.
    """
    grey = np.asarray(image.convert("L").resize((160, 120), Image.Resampling.BOX), dtype=np.float64)
    doubts = []
    if grey.std() < BLANK:
        doubts.append("the picture is blank")
    elif grey.mean() < DARK:
        doubts.append("the picture is too dark")
    elif ratios and (np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2 < BLURRED:
        doubts.append("the picture is blurred")
    if ratios and all(abs(image.width / image.height / ratio - 1) > SAME_SHAPE for ratio in ratios):
        doubts.append(f"the picture is {image.width} x {image.height}, of another shape than what the network has learnt from")
    return doubts
