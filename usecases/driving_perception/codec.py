"""Between a picture of a road and the network; NumPy and Pillow only, since it runs in the server."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.usecase import Arrays
from usecases.driving_perception.masks import resized
from usecases.driving_perception.scenes import read_card, to_pixels
from usecases.images import read_file, requested

DARK, BLANK, BLURRED = 12.0, 6.0, 2.0  # mean, deviation and mean difference of neighbours in grey levels, below which a frame is doubted
SAME_SHAPE = 0.25  # relative difference of the sides' ratio from that of the training images
MOST_DEVIATION = 1.5  # of the training values' own deviation, above which an answer is doubted
UNSURE = 0.5  # mean probability of the classes below which a frame is doubted


class PictureCodec(ABC):
    """Requests are the bytes of an image file."""

    def __init__(self, assets: Path) -> None:
        self.card = read_card(assets)
        self.width, self.height = int(self.card["width"]), int(self.card["height"])

    def read(self, argument: str) -> bytes:
        """Raises `BundleError`: no such file."""
        return read_file(argument)

    def encode(self, requests: Sequence[bytes]) -> Arrays:
        """uint8 [B, 3, height, width]. Raises `BundleError`: one of them is no image, damaged or too large."""
        return {"image": np.stack([to_pixels(image, self.width, self.height) for image in requested(requests)])}

    @abstractmethod
    def decode(self, outputs: Arrays, requests: Sequence[bytes]) -> list[dict[str, Any]]: ...

    def doubts(self, image: Image.Image) -> list[str]:
        return doubts_of(image, self.width / self.height)


class SceneCodec(PictureCodec):
    """Answers are masks of the pictures' own size, with what they hold and whether to trust them."""

    def __init__(self, assets: Path) -> None:
        super().__init__(assets)
        self.classes: list[str] = list(self.card["classes"])
        self.colours: list[list[int]] = list(self.card["colours"])

    def decode(self, outputs: Arrays, requests: Sequence[bytes]) -> list[dict[str, Any]]:
        """`{"trusted", "doubts": [in words], "confidence", "shares": {class: share of the pixels}, "width", "height", "mask"}`.

        `mask` is a PNG in base64, of the image's own size, with the numbers of the classes, in their colours.
        """
        images = requested(requests)
        return [self._answer(image, mask, sure) for image, mask, sure in zip(images, outputs["mask"], outputs["sure"], strict=True)]

    def _answer(self, image: Image.Image, mask: np.ndarray, sure: np.ndarray) -> dict[str, Any]:
        share = np.bincount(mask.ravel(), minlength=len(self.classes)) / mask.size
        doubts, confidence = self.doubts(image), float(sure.mean())
        if confidence < UNSURE:
            doubts.append(f"the network is unsure: {confidence:.0%} on average")
        return {
            "trusted": not doubts,
            "doubts": doubts,
            "confidence": round(confidence, 4),
            "shares": {self.classes[i]: round(float(share[i]), 4) for i in np.argsort(-share, kind="stable") if share[i] > 0},
            "width": image.width,
            "height": image.height,
            "mask": base64.b64encode(self._png(resized(mask.astype(np.uint8), image.width, image.height))).decode(),
        }

    def _png(self, mask: np.ndarray) -> bytes:
        picture = Image.fromarray(mask)
        picture.putpalette([channel for colour in self.colours for channel in colour])
        file = io.BytesIO()
        picture.save(file, "PNG", optimize=True)
        return file.getvalue()


class SteeringCodec(PictureCodec):
    """Answers are what a driver would do, how sure that is, and whether to trust it."""

    def decode(self, outputs: Arrays, requests: Sequence[bytes]) -> list[dict[str, Any]]:
        """`{"trusted", "doubts": [in words], "steering", "steering_deviation"}`, and the same of the throttle where it was recorded."""
        images = requested(requests)
        return [self._answer(image, v, d) for image, v, d in zip(images, outputs["values"], outputs["deviations"], strict=True)]

    def _answer(self, image: Image.Image, value: np.ndarray, deviation: np.ndarray) -> dict[str, Any]:
        doubts = self.doubts(image)
        if deviation[0] > MOST_DEVIATION * self.card["spread"][0]:
            doubts.append(f"the network is unsure: ± {deviation[0]:.2f}")
        told: dict[str, Any] = {"trusted": not doubts, "doubts": doubts}
        for target, one, spread in zip(self.card["targets"], value, deviation, strict=True):
            told |= {target: round(float(one), 4), f"{target}_deviation": round(float(spread), 4)}
        return told


def doubts_of(image: Image.Image, ratio: float) -> list[str]:
    """In words what speaks against trusting any answer about a frame: too dark, blank, blurred, or of another shape than `ratio` (width by height)."""
    grey = np.asarray(image.convert("L").resize((160, 120), Image.Resampling.BOX), dtype=np.float64)
    doubts = []
    if grey.std() < BLANK:
        doubts.append("the picture is blank")
    elif grey.mean() < DARK:
        doubts.append("the picture is too dark")
    elif (np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2 < BLURRED:
        doubts.append("the picture is blurred")
    if abs(image.width / image.height / ratio - 1) > SAME_SHAPE:
        doubts.append(f"the picture is {image.width} x {image.height}, of another shape than what the network has learnt from")
    return doubts
