"""Frames on disk with what is known of each, read as they are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from tasks.contract.types import Arrays

Array = TypeVar("Array")

FASTEST = 1000.0  # speed, in whatever unit it was recorded
IGNORED = 255  # of a mask: belongs to no class, counts for nothing
TOLD = ("speed", "turn")
"""What the graph may be told beside a picture, in the order of its inputs."""
TURNS = 6  # of the last moments that are told: ten say no more
NOTHING, UNCOUNTED = -1, -2  # labels in a table of boxes: an empty row; a region that counts for nothing


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
        """The frames of which is known what this head is to say, int64 [N]."""
        return np.array([row for row, frame in enumerate(self.card) if head in frame["heads"]], dtype=np.int64)

    def names(self) -> list[str]:
        """Where each frame came from, for people."""
        return [frame["name"] for frame in self.card]

    def slices(self) -> list[str]:
        """The scenario of each frame, such as night; empty where none is known."""
        return [frame["slice"] for frame in self.card]

    def sizes(self) -> np.ndarray:
        """Width and height in pixels of the picture behind each frame, int64 [N, 2]."""
        return np.array([frame["size"] for frame in self.card], dtype=np.int64).reshape(-1, 2)


def told(numbers: Sequence[float | None], count: int) -> np.ndarray:
    """float32 [2 count]: the speed as it was recorded, or how far the view turned in each of the last moments, the latest first, and 1; or 0 and 0 where it is not known."""
    pairs = np.zeros((count, 2), dtype=np.float32)
    for pair, number in zip(pairs, numbers, strict=False):
        if number is not None:
            pair[:] = number, 1
    return pairs.ravel()


def counts_told(card: Mapping[str, Any]) -> dict[str, int]:
    """How many numbers there are of each of `TOLD` that the data know; of bundles from before earlier turns were told there is one."""
    return {name: int(card.get("turns", 1)) if name == "turn" else 1 for name in TOLD if name in card}


def inputs_of(batch: Mapping[str, Array]) -> dict[str, Array]:
    """What a network is told of a batch of scenes."""
    return {name: batch[name] for name in ("image", *TOLD) if name in batch}


def read_card(assets: Path) -> dict[str, Any]:
    """`{"width", "height", "heads": [name], "ratios": [width by height of pictures], "mean", "std"}`, and what each head adds, see `heads.head.Head.card`."""
    return json.loads((assets / "scene.json").read_text(encoding="utf-8"))


def to_pixels(image: Image.Image, width: int, height: int) -> np.ndarray:
    """uint8 [3, height, width]: the whole image, so that what is found can be put back in its place."""
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
