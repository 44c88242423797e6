"""Images sorted into a folder for each class, as most of the field keeps them, and the regions and tracks of GTSRB (Stallkamp 2012)."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.contract.findings import Findings
from usecases.images import SUFFIXES

SPLIT_NAMES = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation", "eval": "validation",
    "test": "test", "testing": "test", "testset": "test", "holdout": "test",
}  # fmt: skip
CLUTTER = ("thumbs.db", "desktop.ini")
REGION = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
TRACK = re.compile(r"^(\d+)_\d+$")


@dataclass(frozen=True)
class Item:
    """One image that is somewhere, with what is known of it before it is opened."""

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


def split_of(name: str) -> str | None:
    """The split that a folder or file name speaks of: train, Final_Training, val, test-00000-of-00001."""
    words = re.split(r"[^a-z]+", name.casefold())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def is_class_tree(path: Path, subfolders: list[Path]) -> bool:
    """Two or more folders that hold images, with nothing but a list beside them."""
    return len(subfolders) > 1 and all(any(p.suffix.casefold() in SUFFIXES for p in folder.rglob("*")) for folder in subfolders)


def class_tree(path: Path) -> Source:
    source = Source("", [])
    root = _unwrap(path)
    split_folders = [(folder, split) for folder in _subfolders(root) if (split := split_of(folder.name)) and _subfolders(_unwrap(folder))]
    if split_folders and {split for _, split in split_folders} != {"train"}:
        for folder, split in split_folders:
            _read_classes(source, path, _unwrap(folder), split)
        named = ", ".join(dict.fromkeys(split for _, split in split_folders))
        source.layout = f"a folder per class, with the splits {named}"
    else:
        _read_classes(source, path, _unwrap(split_folders[0][0]) if split_folders else root, None)
        source.layout = "a folder per class, without splits"
    if any(item.group for item in source.items):
        source.layout += ", with tracks of frames"
    return source


def _unwrap(folder: Path) -> Path:
    """Down through folders that hold one folder of folders and nothing else."""
    while True:
        inside = _subfolders(folder)
        if len(inside) != 1 or not _subfolders(inside[0]):
            return folder
        folder = inside[0]


def _read_classes(source: Source, top: Path, folder: Path, split: str | None) -> None:
    for loose in (p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix.casefold() in SUFFIXES):
        source.findings.set_aside("image outside the class folders", str(loose.relative_to(top)))
    for class_folder in _subfolders(folder):
        found = list(_class_items(source, top, class_folder, split))
        if not found:
            source.findings.note("empty class", str(class_folder.relative_to(top)), "left out")
        source.items += found


def _class_items(source: Source, top: Path, folder: Path, split: str | None) -> Iterator[Item]:
    annotations = _annotations(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or hidden(path) or path.name.casefold() in CLUTTER:
            continue
        name, known = str(path.relative_to(top)), annotations.get(path.name)
        if path.suffix.casefold() not in SUFFIXES:
            if path.suffix.casefold() != ".csv":
                source.findings.note("file that is no image", name, "ignored")
        elif annotations and not folder.name.isdecimal() and (known is None or known.label is None):
            source.findings.set_aside("image without a class in the list beside it", name)
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
    """Of GTSRB's lists: the class of each image, called as its folders are, and its region: left, upper, right, lower in pixels."""
    found = {}
    for path in folder.glob("*.csv"):
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, delimiter=";"):
                if row.keys() >= {"Filename", *REGION}:
                    label = f"{int(row['ClassId']):05d}" if row.get("ClassId") else None
                    left, upper, right, lower = (int(row[side]) for side in REGION)
                    found[row["Filename"]] = _Annotation(label, (left, upper, right, lower))
    return found


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not hidden(p))


def hidden(path: Path) -> bool:
    return path.name.startswith((".", "__MACOSX"))
