"""Images in a folder for each class, with the regions and tracks of GTSRB (Stallkamp 2012) where they are given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.contract.findings import Findings
from usecases.images import SUFFIXES
from usecases.reading.class_trees import find_classes
from usecases.reading.files import files_below, files_in, subfolders, unwrap, walk
from usecases.reading.tables import named_rows

REGION = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
TRACK = re.compile(r"^(\d+)_\d+$")


@dataclass(frozen=True)
class Item:
    """One image that is not read yet: its name, label and how to read it; `split`, `group` (such as a track) and `box` where they are given."""

    name: str
    label: str
    read: Callable[[], bytes | np.ndarray]
    split: str | None = None
    group: str | None = None
    box: tuple[int, int, int, int] | None = None
    file: Path | None = None


@dataclass
class Source:
    layout: str
    items: list[Item]
    findings: Findings = field(default_factory=Findings)


def is_class_tree(subfolders: list[Path]) -> bool:
    """Whether these are two or more folders that all contain images."""
    return len(subfolders) > 1 and all(any(p.suffix.casefold() in SUFFIXES for p in walk(folder)) for folder in subfolders)


def class_tree(path: Path) -> Source:
    """The images of a folder per class, or of a folder per split with a folder per class in it. Only lists of GTSRB are opened, no image."""
    tree = find_classes(_unwrapped(path), lambda folder: bool(subfolders(_unwrapped(folder))))
    source = Source(tree.layout, [])
    for folder, split in tree.parts:
        _read_classes(source, path, _unwrapped(folder), split)
    if any(item.group for item in source.items):
        source.layout += ", with tracks of frames"
    return source


def _unwrapped(folder: Path) -> Path:
    """The first folder below that does not merely wrap another folder of folders; files next to it do not matter."""
    return unwrap(folder, lambda _files, inside: bool(subfolders(inside)))


def _read_classes(source: Source, top: Path, folder: Path, split: str | None) -> None:
    for loose in (p for p in files_in(folder) if p.suffix.casefold() in SUFFIXES):
        source.findings.set_aside("image outside the class folders", str(loose.relative_to(top)))
    for class_folder in subfolders(folder):
        found = list(_class_items(source, top, class_folder, split))
        if not found:
            source.findings.note("empty class", str(class_folder.relative_to(top)), "left out")
        source.items += found


def _class_items(source: Source, top: Path, folder: Path, split: str | None) -> Iterator[Item]:
    annotations = _annotations(folder)
    for path in files_below(folder):
        name, known = str(path.relative_to(top)), annotations.get(path.name)
        if path.suffix.casefold() not in SUFFIXES:
            if path.suffix.casefold() != ".csv":
                source.findings.note("file that is not an image", name, "ignored")
        elif annotations and not folder.name.isdecimal() and (known is None or known.label is None):
            source.findings.set_aside("image without a class in the list next to it", name)
        else:
            track = TRACK.match(path.stem) if annotations else None
            group = f"{folder.name}/{track[1]}" if track else None
            label = folder.name if known is None or known.label is None else known.label
            yield Item(name, label, path.read_bytes, split, group, known.box if known else None)


@dataclass(frozen=True)
class _Annotation:
    label: str | None
    box: tuple[int, int, int, int]


def _annotations(folder: Path) -> dict[str, _Annotation]:
    """The class and region (left, upper, right, lower in pixels) of each image in GTSRB's lists; classes are named as GTSRB's folders are."""
    found = {}
    for path in sorted(folder.glob("*.csv")):
        for row in named_rows(path, "", Findings()):
            if row.keys() >= {"Filename", *REGION}:
                label = f"{int(row['ClassId']):05d}" if row.get("ClassId") else None
                left, upper, right, lower = (int(row[side]) for side in REGION)
                found[row["Filename"]] = _Annotation(label, (left, upper, right, lower))
    return found
