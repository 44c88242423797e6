"""Detect the layout of the data from its files, and list its images.

A layout gives a `Source`: items that know how to read themselves. An image is not read before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tasks.contract.errors import DataError
from usecases.image_classification.idx import is_images, read_folder
from usecases.image_classification.tables import from_hub, from_parquet, from_text
from usecases.reading.archives import refuse_archives
from usecases.reading.class_folders import Item, Source, class_tree, is_class_tree
from usecases.reading.digests import HUB, is_on_hub
from usecases.reading.files import files_below, files_in, subfolders
from usecases.reading.splits import split_of

if TYPE_CHECKING:
    from usecases.image_classification import ImageSettings

LISTS = (".csv", ".tsv", ".jsonl")


def find_source(settings: ImageSettings) -> Source:
    """The images behind the settings.

    Raises:
        DataError: the path does not exist, or its layout is unknown.
    """
    data = settings.data
    if data == "sample":
        return _digits()
    if is_on_hub(data):
        return from_hub(data.removeprefix(HUB), settings)
    path = Path(data).expanduser()
    if not path.exists():
        raise DataError(f"--usecase.data {data} does not exist. Give a folder or file, hf://owner/name, or 'sample'.")
    found = next((source for read in LAYOUTS if (source := read(path, settings)) is not None), None)
    if found is None:
        raise DataError(_unknown(path))
    return found


def images_elsewhere(settings: ImageSettings) -> list[Path]:
    """Images outside of the folder `settings.data` that its lists of paths and labels name."""
    path = Path(settings.data).expanduser()
    if not path.exists() or not _lists(path):
        return []
    try:
        files = [item.file for item in find_source(settings).items if item.file]
    except DataError:  # `prepare` reports it
        return []
    inside = path.resolve()  # a list may lead out of the folder by `..`
    return [file for file in files if not file.resolve().is_relative_to(inside)]


# -- layouts ----------------------------------------------------------------------------------------------------------
def _idx(path: Path, settings: ImageSettings) -> Source | None:
    return read_folder(path) if path.is_dir() and any(map(is_images, files_in(path))) else None


def _parquet(path: Path, settings: ImageSettings) -> Source | None:
    shards = [p for p in (files_below(path) if path.is_dir() else [path]) if p.suffix.casefold() == ".parquet"]
    return from_parquet(shards, settings) if shards else None


def _listed(path: Path, settings: ImageSettings) -> Source | None:
    """Lists of paths and labels, unless they are next to a folder per class."""
    lists = _lists(path)
    if not lists or (path.is_dir() and not settings.image_column and is_class_tree(subfolders(path))):
        return None
    source = Source("a list of paths and labels" if len(lists) == 1 else f"{len(lists)} lists of paths and labels", [])
    for file in lists:
        items = from_text(file, settings, source.findings)
        named = split_of(file.stem) if len(lists) > 1 else None
        source.items += [replace(item, split=item.split or named) for item in items]
    return source


def _lists(path: Path) -> list[Path]:
    """Files that are lists by their suffix; a file that is given itself may also be a .txt."""
    return [p for p in files_in(path) if p.suffix.casefold() in LISTS] if path.is_dir() else [path] if _is_table(path) else []


def _is_table(path: Path) -> bool:
    return path.suffix.casefold() in (*LISTS, ".txt")


def _class_folders(path: Path, settings: ImageSettings) -> Source | None:
    return class_tree(path) if path.is_dir() and subfolders(path) else None


LAYOUTS: tuple[Callable[[Path, ImageSettings], Source | None], ...] = (_idx, _parquet, _listed, _class_folders)
"""Readers of layouts, in the order in which they are tried; a reader returns None where a path is not in its layout."""


def _unknown(path: Path) -> str:
    refuse_archives([path])
    if path.is_file():
        return f"{path} is not in a known format. Give a folder, a .csv, .tsv or .jsonl of paths and labels, or a .parquet file."
    files = files_in(path)
    what = f"it contains files ({len(files)}) but no folders" if files else "it is empty"
    return f"No classes were found in {path}: {what}. Put the images of each class into a folder of its name, or add a CSV or JSON lines of paths and labels."


# -- the sample -------------------------------------------------------------------------------------------------------
def _digits() -> Source:
    from sklearn.datasets import load_digits

    digits = cast(Any, load_digits())  # its type depends on arguments
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)

    def reader(index: int) -> Callable[[], np.ndarray]:
        return lambda: images[index]

    items = [Item(f"digit {index}", str(label), reader(index)) for index, label in enumerate(digits.target)]
    return Source("scikit-learn's handwritten digits, 8 x 8 pixels", items)
