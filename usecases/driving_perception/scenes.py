"""Prepared frames and their labels on disk, read batch by batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from tasks.contract.types import Arrays

Array = TypeVar("Array")

MAX_SPEED = 1000.0  # in the unit of the recording
IGNORED = 255  # value of pixels of a mask that belong to no class; they are ignored
CONDITIONING = ("speed", "turn")
"""Conditioning inputs: inputs of the exported graph besides the image, in their order. A network has those that its data record."""
MAX_YAW_RATES = 6  # yaw rates of the latest moments that are given; ten are no better
NOTHING, UNCOUNTED = -1, -2  # labels in a table of boxes: an empty row; an ignored region


class StoredScenes:
    """One split of a prepared data set."""

    def __init__(self, folder: Path) -> None:
        self.arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
        self.card: list[dict[str, Any]] = json.loads((folder / "frames.json").read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self.card)

    def batch(self, indices: np.ndarray) -> Arrays:
        """image uint8 [B, 3, H, W], and the labels and inputs that each head wrote, see `heads.head.Head.write`."""
        return {name: np.ascontiguousarray(array[indices]) for name, array in self.arrays.items()}

    def rows_with(self, head: str) -> np.ndarray:
        """Numbers of the frames with labels for a head, int64 [N]."""
        return np.array([row for row, frame in enumerate(self.card) if head in frame["heads"]], dtype=np.int64)

    def names(self) -> list[str]:
        """The file that each frame was read from."""
        return [frame["name"] for frame in self.card]

    def slices(self) -> list[str]:
        """The scenario of each frame, such as night; empty without one."""
        return [frame["slice"] for frame in self.card]

    def sizes(self) -> np.ndarray:
        """Width and height in pixels of the original image of each frame, int64 [N, 2]."""
        return np.array([frame["size"] for frame in self.card], dtype=np.int64).reshape(-1, 2)


def with_indicators(numbers: Sequence[float | None], count: int) -> np.ndarray:
    """A conditioning input, float32 [2 count]: each number and 1, or 0 and 0 where it is missing; yaw rates with the latest first."""
    pairs = np.zeros((count, 2), dtype=np.float32)
    for pair, number in zip(pairs, numbers, strict=False):
        if number is not None:
            pair[:] = number, 1
    return pairs.ravel()


def conditioning_counts(card: Mapping[str, Any]) -> dict[str, int]:
    """How many numbers each conditioning input of a network has; bundles of earlier releases with one yaw rate do not say so."""
    return {name: int(card.get("turns", 1)) if name == "turn" else 1 for name in CONDITIONING if name in card}


def inputs_of(batch: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs of the network among the arrays of a batch."""
    return {name: batch[name] for name in ("image", *CONDITIONING) if name in batch}


def read_card(assets: Path) -> dict[str, Any]:
    """`{"width", "height", "heads": [name], "ratios": [width / height of the images], "mean", "std"}`, and the part of each head, see `heads.head.Head.card`."""
    return json.loads((assets / "scene.json").read_text(encoding="utf-8"))


def to_pixels(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Resize the whole image, so that predictions can be mapped back to it.

    Args:
        image: of any mode and size.
        width: in pixels.
        height: in pixels.

    Returns:
        uint8 [3, height, width].
    """
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
