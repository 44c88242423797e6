"""Between a picture of a road and the network; NumPy and Pillow only, since it runs in the server."""

from __future__ import annotations

import base64
import io
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
from usecases.driving_perception.advice import Thing, advise
from usecases.driving_perception.answer_blocks import answer_blocks
from usecases.driving_perception.heads.boxes.maps import found_boxes
from usecases.driving_perception.masks import resized
from usecases.driving_perception.scenes import FASTEST, counts_told, read_card, to_pixels, told
from usecases.driving_perception.turning import same_shape, strip, turn_between
from usecases.images import read_file, requested

DARK, BLANK, BLURRED = 12.0, 6.0, 2.0  # mean, deviation and mean difference of neighbours in grey levels, below which a frame is doubted
SAME_SHAPE = 0.25  # relative difference of the sides' ratio from that of the training images
MOST_DEVIATION = 1.5  # of the training values' own deviation, above which an answer is doubted
LIKELY = 0.3  # probability from which on a box is told
FAST = 1  # compression of a mask: it has few colours, and a frame has to be answered before the next one comes
LIKELIEST = 3  # kinds of signs or lights that are told
KEYS = ("b64", "speed", "before")  # of a request that is more than an image
UNSURE = 0.5  # probability of the classes, on average, or of the sign below which a frame is doubted


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
        """`{"trusted", "doubts": [in words], "width", "height"}`, and of what the network has learnt:

        - `"confidence", "shares": {class: share of the pixels}, "mask"`, a PNG in base64 of the image's own size: numbers of classes, in their colours;
        - `"boxes": [{"label", "score", "box": [left, top, right, bottom]}]`, the surest first;
        - `"steering", "steering_deviation"`, and the same of the throttle where it was recorded;
        - `"signal", "signal_probability"`, and the three likeliest, `"signals": {kind: probability}`;
        - `"advice": {"action": keep, slow or stop, "reasons", "drivable", "nearest"}`.
        """
        images = self.images(requests)
        return [self._answer(image, {name: array[row] for name, array in outputs.items()}) for row, image in enumerate(images)]

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """The advice, the image with what was found drawn over it, and the numbers of each head."""
        (image,) = self.images([request])
        return answer_blocks(image, answer, self.card)

    def _answer(self, image: Image.Image, said: Arrays) -> dict[str, Any]:
        doubts, told = doubts_of(image, self.card["ratios"]), {}
        things = None
        if "mask" in said:
            told |= self._masked(image, said["mask"], said["sure"], doubts)
        if "centres" in said:
            told["boxes"] = self._boxes(image, said["centres"], said["extents"])
            sides = np.array([image.width, image.height] * 2)
            things = [Thing(box["label"], tuple(np.array(box["box"]) / sides)) for box in told["boxes"]]
        if "values" in said:
            told |= self._driven(said["values"], said["deviations"], doubts)
        if "probabilities" in said:
            told |= self._named(said["probabilities"], doubts)
        classes = self.card.get("classes", ())
        advice = advise(said.get("mask"), classes, things, told.get("steering"), not doubts, told.get("signal"))
        return {
            "trusted": not doubts,
            "doubts": doubts,
            "advice": {
                "action": advice.action,
                "reasons": list(advice.reasons),
                "drivable": _rounded(advice.drivable),
                "nearest": _rounded(advice.nearest),
            },
            "width": image.width,
            "height": image.height,
            **told,
        }

    def _masked(self, image: Image.Image, mask: np.ndarray, sure: np.ndarray, doubts: list[str]) -> dict[str, Any]:
        classes = self.card["classes"]
        share = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
        confidence = float(sure.mean())
        if confidence < UNSURE:
            doubts.append(f"the network is unsure: {confidence:.0%} on average")
        return {
            "confidence": round(confidence, 4),
            "shares": {classes[i]: round(float(share[i]), 4) for i in np.argsort(-share, kind="stable") if share[i] > 0},
            "mask": base64.b64encode(self._png(resized(mask.astype(np.uint8), image.width, image.height))).decode(),
        }

    def _png(self, mask: np.ndarray) -> bytes:
        picture = Image.fromarray(mask)
        picture.putpalette([channel for colour in self.card["colours"] for channel in colour])
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=FAST)
        return file.getvalue()

    def _boxes(self, image: Image.Image, centres: np.ndarray, extents: np.ndarray) -> list[dict[str, Any]]:
        found = found_boxes(centres, extents, LIKELY)
        stretch = np.tile([image.width / self.width, image.height / self.height], 2)
        sides = np.minimum(found.boxes * stretch, [image.width, image.height] * 2)
        return [
            {"label": self.card["objects"][label], "score": round(float(score), 4), "box": [round(float(side), 1) for side in box]}
            for label, score, box in zip(found.labels, found.scores, sides, strict=True)
        ]

    def _driven(self, values: np.ndarray, deviations: np.ndarray, doubts: list[str]) -> dict[str, float]:
        if deviations[0] > MOST_DEVIATION * self.card["spread"][0]:
            doubts.append(f"the network is unsure how to steer: ± {deviations[0]:.2f}")
        told: dict[str, float] = {}
        for target, one, spread in zip(self.card["targets"], values, deviations, strict=True):
            told |= {target: round(float(one), 4), f"{target}_deviation": round(float(spread), 4)}
        return told

    def _named(self, probabilities: np.ndarray, doubts: list[str]) -> dict[str, Any]:
        likeliest = np.argsort(-probabilities, kind="stable")[:LIKELIEST]
        named = {self.card["signals"][number]: round(float(probabilities[number]), 4) for number in likeliest}
        kind, probability = next(iter(named.items()))
        if probability < UNSURE:
            doubts.append(f"the network is unsure which sign or light this is: {kind} with {probability:.0%}")
        return {"signal": kind, "signal_probability": probability, "signals": named}


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
