"""Which of the field's layouts the data are in, told from the files themselves, and their images one by one.

A layout gives a `Source`: items that know how to read themselves. Nothing is read before it is asked for.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tasks.errors import DataError
from tasks.findings import Findings
from usecases.image_classification import idx, tables
from usecases.images import SUFFIXES

if TYPE_CHECKING:
    from usecases.image_classification import ImageSettings

SPLIT_NAMES = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation", "eval": "validation",
    "test": "test", "testing": "test", "testset": "test", "holdout": "test",
}  # fmt: skip
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
CLUTTER = ("thumbs.db", "desktop.ini")
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


@dataclass
class Source:
    layout: str
    items: list[Item]
    findings: Findings = field(default_factory=Findings)


def find_source(settings: ImageSettings) -> Source:
    """The images behind the settings.

    Raises:
        DataError: there is nothing, or nothing known.
    """
    data = settings.data
    if data == "sample":
        return _digits()
    if data.startswith("hf://"):
        return tables.from_hub(data.removeprefix("hf://"), settings)
    path = Path(data).expanduser()
    if not path.exists():
        raise DataError(f"There is nothing at --usecase.data {data}. Give a folder or file, hf://owner/name, or 'sample'.")
    return _from_file(path, settings) if path.is_file() else _from_folder(path, settings)


def data_digest(settings: ImageSettings) -> str:
    """Of the settings that decide the prepared data, and of the names, sizes and times of the files behind them."""
    decisive = ("data", "image_column", "label_column", "size", "channels", "validation_share", "test_share", "split_seed", "tolerance")
    facts: list[object] = [getattr(settings, name) for name in decisive]
    path = Path(settings.data).expanduser()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else []
    facts += [(str(p.relative_to(path)), (s := p.stat()).st_size, s.st_mtime_ns) for p in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def split_of(name: str) -> str | None:
    """The split that a folder or file name speaks of: train, Final_Training, val, test-00000-of-00001."""
    words = re.split(r"[^a-z]+", name.casefold())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


# -- where ------------------------------------------------------------------------------------------------------------
def _from_file(path: Path, settings: ImageSettings) -> Source:
    suffix = path.suffix.casefold()
    if suffix == ".parquet":
        return tables.from_parquet([path], settings)
    if suffix in (".csv", ".tsv", ".txt"):
        return tables.from_text(path, settings)
    if suffix in ARCHIVES:
        raise DataError(f"{path} is an archive. Unpack it and give the folder.")
    raise DataError(f"{path} is of no known kind. Give a folder, a .csv or .tsv of paths and labels, or a .parquet file.")


def _from_folder(path: Path, settings: ImageSettings) -> Source:
    files = [p for p in sorted(path.iterdir()) if p.is_file() and not _hidden(p)]
    if any(idx.is_images(p) for p in files):
        return idx.source(path)
    shards = sorted(p for p in path.rglob("*.parquet") if not _hidden(p))
    if shards:
        return tables.from_parquet(shards, settings)
    lists = [p for p in files if p.suffix.casefold() in (".csv", ".tsv")]
    subfolders = [p for p in path.iterdir() if p.is_dir() and not _hidden(p)]
    if lists and (settings.image_column or not _is_class_tree(path, subfolders)):
        return _from_lists(lists, settings)
    if not subfolders:
        what = f"{len(files)} files lie loose in it" if files else "it is empty"
        raise DataError(
            f"No classes were found in {path}: {what}. Put the images of each class into a folder of its name, or add a CSV of paths and labels."
        )
    return _class_tree(path)


def _is_class_tree(path: Path, subfolders: list[Path]) -> bool:
    """Two or more folders that hold images, with nothing but a list beside them."""
    return len(subfolders) > 1 and all(any(p.suffix.casefold() in SUFFIXES for p in folder.rglob("*")) for folder in subfolders)


def _from_lists(lists: list[Path], settings: ImageSettings) -> Source:
    sources = [tables.from_text(path, settings) for path in lists]
    if len(sources) == 1:
        return sources[0]
    items = [
        replace(item, split=item.split or split_of(path.stem)) for path, source in zip(lists, sources, strict=True) for item in source.items
    ]
    merged = Source(f"{len(lists)} lists of paths and labels", items)
    for source in sources:
        merged.findings.kinds |= source.findings.kinds
        merged.findings.unusable += source.findings.unusable
    return merged


# -- class folders ----------------------------------------------------------------------------------------------------
def _class_tree(path: Path) -> Source:
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
    boxes = _region_boxes(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or _hidden(path) or path.name.casefold() in CLUTTER:
            continue
        name = str(path.relative_to(top))
        if path.suffix.casefold() in SUFFIXES:
            track = TRACK.match(path.stem) if boxes else None
            group = f"{folder.name}/{track[1]}" if track else None
            yield Item(name, folder.name, path.read_bytes, split, group, boxes.get(path.name))
        elif path.suffix.casefold() != ".csv":
            source.findings.note("file that is no image", name, "ignored")


def _region_boxes(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """The region of each image as GTSRB (Stallkamp 2012) annotates it: left, upper, right, lower in pixels."""
    boxes = {}
    for path in folder.glob("*.csv"):
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, delimiter=";"):
                if row.keys() >= {"Filename", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2"}:
                    boxes[row["Filename"]] = tuple(int(row[f"Roi.{corner}"]) for corner in ("X1", "Y1", "X2", "Y2"))
    return boxes


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _hidden(p))


def _hidden(path: Path) -> bool:
    return path.name.startswith((".", "__MACOSX"))


# -- the sample -------------------------------------------------------------------------------------------------------
def _digits() -> Source:
    from sklearn.datasets import load_digits

    digits = cast(Any, load_digits())  # its type depends on arguments
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)

    def reader(index: int) -> Callable[[], np.ndarray]:
        return lambda: images[index]

    items = [Item(f"digit {index}", str(label), reader(index)) for index, label in enumerate(digits.target)]
    return Source("scikit-learn's handwritten digits, 8 x 8 pixels", items)
