"""Signs and traffic lights by themselves, cut out of their pictures: a folder for each kind, with the regions and tracks of GTSRB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from tasks.contract.findings import Findings
from usecases.driving_perception.frames import Frame, Source
from usecases.reading.class_folders import Item, class_tree

NO_KIND = frozenset(
    {"images", "image", "img", "labels", "label", "masks", "annotations", "image_2", "label_2", "calib", "val", "test", "train"}
)


def find_crops(folder: Path, findings: Findings) -> Source | None:
    """None where the folder does not hold two kinds or more."""
    found = class_tree(folder)
    kinds = {item.label for item in found.items}
    if len(kinds) < 2 or {kind.casefold() for kind in kinds} & NO_KIND:
        return None
    findings.include(found.findings)
    return Source(f"signs or lights by themselves, {found.layout}", [_frame(item) for item in found.items])


def _frame(item: Item) -> Frame:
    return Frame(item.name, cast(Callable[[], bytes], item.read), item.group or "", item.split, signal=item.label, region=item.box)
