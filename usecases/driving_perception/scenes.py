"""Road scenes on disk, read as they are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.usecase import Arrays

IGNORED = 255  # of a mask: belongs to no class, counts for nothing


class StoredScenes:
    """One split of a prepared data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.masks = np.load(folder / "masks.npy", mmap_mode="r")
        self.card: list[dict[str, str]] = json.loads((folder / "frames.json").read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> Arrays:
        """image uint8 [B, 3, H, W] and mask uint8 [B, H, W], the number of each pixel's class or 255."""
        return {"image": np.ascontiguousarray(self.images[indices]), "mask": np.ascontiguousarray(self.masks[indices])}

    def names(self) -> list[str]:
        """Where each frame came from, for people."""
        return [frame["name"] for frame in self.card]

    def slices(self) -> list[str]:
        """The scenario of each frame, such as night; empty where none is known."""
        return [frame["slice"] for frame in self.card]


def read_card(assets: Path) -> dict[str, Any]:
    """`{"height", "width", "classes": [name], "colours": [[r, g, b]], "mean", "std", "shares": [of the training pixels]}`"""
    return json.loads((assets / "scene.json").read_text(encoding="utf-8"))


def to_pixels(image: Image.Image, width: int, height: int) -> np.ndarray:
    """uint8 [3, height, width]: the whole image, so that what is found can be put back in its place."""
    image = image.convert("RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)
