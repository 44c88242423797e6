"""A few road scenes, written to disk in the layouts that the field publishes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.sample import CLASSES, draw

COLOURS = [(20 * number + 15, 255 - 20 * number, 40) for number in range(len(CLASSES))]
CITY = {0: 23, 1: 11, 2: 21, 3: 8, 4: 7, 6: 26, 7: 24, 8: 20}  # the sample's numbers as those of Cityscapes
SPLITS = {"train": 12, "val": 4, "test": 4}


def frames(split: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, picture and mask, the names as a recording of this split has them."""
    for number in range(SPLITS[split]):
        drawn = draw("day", list(SPLITS).index(split), number)
        yield f"{split}_{number:05d}", drawn.picture, drawn.mask


def save(pixels: np.ndarray, path: Path, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)


def coloured(mask: np.ndarray) -> np.ndarray:
    return np.array(COLOURS, dtype=np.uint8)[mask]


def camvid_of_segnet(folder: Path) -> None:
    for split in SPLITS:
        for name, picture, mask in frames(split):
            save(picture, folder / split / f"{name}.jpg", quality=95)
            save(mask, folder / f"{split}annot" / f"{name}.png")
    (folder / "classes.txt").write_text("\n".join([*CLASSES, "Unlabelled"]))


def camvid_as_published(folder: Path) -> None:
    for split in SPLITS:
        for name, picture, mask in frames(split):
            save(picture, folder / "701_StillsRaw_full" / f"{name}.png")
            save(coloured(mask), folder / "LabeledApproved_full" / f"{name}_L.png")
    lines = [f"{r} {g} {b}\t{name}" for (r, g, b), name in zip(COLOURS, CLASSES, strict=True)]
    (folder / "label_colors.txt").write_text("\n".join([*lines, "0 0 0\tVoid"]))


def cityscapes(folder: Path) -> None:
    for split in SPLITS:
        for name, picture, mask in frames(split):
            city = f"{split}ville"
            save(picture, folder / "leftImg8bit" / split / city / f"{city}_{name}_leftImg8bit.png")
            numbers = np.vectorize(lambda value: CITY.get(value, 0))(mask).astype(np.uint8)
            save(numbers, folder / "gtFine" / split / city / f"{city}_{name}_gtFine_labelIds.png")
            save(coloured(mask), folder / "gtFine" / split / city / f"{city}_{name}_gtFine_color.png")


def pairs_with_a_table(folder: Path) -> None:
    for split in SPLITS:
        for name, picture, mask in frames(split):
            save(picture, folder / "images" / split / f"{name}.png")
            save(coloured(mask), folder / "masks" / split / f"{name}_mask.png")
    rows = [f"{name},{r},{g},{b}" for (r, g, b), name in zip(COLOURS, CLASSES, strict=True)]
    (folder / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]))


def pairs_without_anything(folder: Path) -> None:
    for split in SPLITS:
        for name, picture, mask in frames(split):
            save(picture, folder / "image" / f"{name}.png")
            save(mask, folder / "labels" / f"{name}.png")


LAYOUTS = {
    layout.__name__: layout for layout in (camvid_of_segnet, camvid_as_published, cityscapes, pairs_with_a_table, pairs_without_anything)
}


def prepared(folder: Path, out: Path, **settings: Any) -> dict[str, Any]:
    return DrivingPerception(data=str(folder), **settings).prepare(out)
