"""Small real image files for the tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Image.Image:
    random = np.random.default_rng(seed)
    colour = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    if mode == "RGBA":
        colour.putalpha(Image.fromarray(random.integers(0, 256, (size[1], size[0]), dtype=np.uint8)))
        return colour
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, (size[1], size[0]), dtype=np.uint16))
    return colour.convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def class_tree(folder: Path, classes: dict[str, int], seed: int = 0, size: tuple[int, int] = (12, 12)) -> Path:
    """A folder per class with so many different pictures."""
    for label, count in classes.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            seed += 1
            picture(seed + 1000 * len(folder.name), size).save(folder / label / f"{label}_{index:03d}.png")
    return folder
