"""Reader of crops of signs and traffic lights: a folder for each class, with the regions and tracks of GTSRB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from tasks.contract.findings import Findings
from usecases.driving_perception.frames import Frame, Source
from usecases.reading.class_folders import Item, class_tree

NO_CLASS = frozenset(
    {"images", "image", "img", "labels", "label", "masks", "annotations", "image_2", "label_2", "calib", "val", "test", "train"}
)


def find_crops(folder: Path, findings: Findings) -> Source | None:
    """The crops in a folder; None if it does not contain folders of two or more classes."""
    found = class_tree(folder)
    classes = {item.label for item in found.items}
    if len(classes) < 2 or {name.casefold() for name in classes} & NO_CLASS:
        return None
    findings.include(found.findings)
    return Source(f"crops of signs or lights, {found.layout}", [_frame(item) for item in found.items])


def _frame(item: Item) -> Frame:
    return Frame(item.name, cast(Callable[[], bytes], item.read), item.group or "", item.split, signal=item.label, region=item.box)
