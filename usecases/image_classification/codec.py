"""Conversion between requests, tensors and answers. Uses NumPy and Pillow only, since it runs in the server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tasks.contract.blocks import AnswerBlock, probability_bars
from tasks.contract.codec import Takes
from tasks.contract.types import Arrays
from usecases.images import read_file, requested, to_pixels

TOP = 5


class ImageCodec:
    """Requests are the bytes of an image file; answers are labels with probabilities."""

    takes: ClassVar[Takes] = "image"
    padding: Mapping[str, int] = {}

    def __init__(self, assets: Path) -> None:
        card = json.loads((assets / "image.json").read_text(encoding="utf-8"))
        self.size, self.channels, self.labels = int(card["size"]), int(card["channels"]), list(card["labels"])

    def read(self, argument: str) -> bytes:
        """The bytes of an image file. Raises `BundleError`: there is no such file."""
        return read_file(argument)

    def encode(self, requests: Sequence[bytes]) -> Arrays:
        """image uint8 [B, C, size, size]. Raises `BundleError`: one of the requests is not an image, damaged or too large."""
        return {"image": np.stack([to_pixels(image, self.size, self.channels) for image in requested(requests)])}

    def decode(self, outputs: Arrays, requests: Sequence[bytes]) -> list[dict[str, Any]]:
        """From probabilities [B, classes] to `{"label", "probability", "top": [{"label", "probability"}, ...]}`."""
        return [self._answer(row) for row in outputs["probabilities"]]

    def blocks(self, request: bytes, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        return [probability_bars(answer["label"], [(row["label"], row["probability"]) for row in answer["top"]])]

    def _answer(self, probabilities: np.ndarray) -> dict[str, Any]:
        order = np.argsort(-probabilities, kind="stable")[:TOP]
        top = [{"label": self.labels[i], "probability": round(float(probabilities[i]), 6)} for i in order]
        return {**top[0], "top": top}
