"""Which of the field's layouts the data are in, told from the files themselves, and their images one by one.

A layout gives a `Source`: items that know how to read themselves. Nothing is read before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tasks.contract.errors import DataError
from usecases.class_folders import Item, Source, class_tree, hidden, is_class_tree, split_of
from usecases.image_classification import idx, tables

if TYPE_CHECKING:
    from usecases.image_classification import ImageSettings

LISTS = (".csv", ".tsv", ".txt")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


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


def images_elsewhere(settings: ImageSettings) -> list[Path]:
    """The images that lists of paths and labels name outside of the folder that `settings.data` gives."""
    path = Path(settings.data).expanduser()
    lists = [p for p in path.iterdir() if is_list(p)] if path.is_dir() else [path] if path.is_file() and is_list(path) else []
    if not lists:
        return []
    try:
        files = [item.file for item in find_source(settings).items if item.file]
    except DataError:  # refused with the reason when the data are prepared
        return []
    return [file for file in files if not file.is_relative_to(path)]


def is_list(path: Path) -> bool:
    return path.suffix.casefold() in LISTS


# -- where ------------------------------------------------------------------------------------------------------------
def _from_file(path: Path, settings: ImageSettings) -> Source:
    suffix = path.suffix.casefold()
    if suffix == ".parquet":
        return tables.from_parquet([path], settings)
    if is_list(path):
        return tables.from_text(path, settings)
    if suffix in ARCHIVES:
        raise DataError(f"{path} is an archive. Unpack it and give the folder.")
    raise DataError(f"{path} is of no known kind. Give a folder, a .csv or .tsv of paths and labels, or a .parquet file.")


def _from_folder(path: Path, settings: ImageSettings) -> Source:
    files = [p for p in sorted(path.iterdir()) if p.is_file() and not hidden(p)]
    if any(idx.is_images(p) for p in files):
        return idx.source(path)
    shards = sorted(p for p in path.rglob("*.parquet") if not hidden(p))
    if shards:
        return tables.from_parquet(shards, settings)
    lists = [p for p in files if p.suffix.casefold() in LISTS[:2]]
    subfolders = [p for p in path.iterdir() if p.is_dir() and not hidden(p)]
    if lists and (settings.image_column or not is_class_tree(path, subfolders)):
        return _from_lists(lists, settings)
    if not subfolders:
        what = f"{len(files)} files lie loose in it" if files else "it is empty"
        raise DataError(
            f"No classes were found in {path}: {what}. Put the images of each class into a folder of its name, or add a CSV of paths and labels."
        )
    return class_tree(path)


def _from_lists(lists: list[Path], settings: ImageSettings) -> Source:
    sources = [tables.from_text(path, settings) for path in lists]
    if len(sources) == 1:
        return sources[0]
    items = [
        replace(item, split=item.split or split_of(path.stem)) for path, source in zip(lists, sources, strict=True) for item in source.items
    ]
    merged = Source(f"{len(lists)} lists of paths and labels", items)
    for source in sources:
        merged.findings.include(source.findings)
    return merged


# -- the sample -------------------------------------------------------------------------------------------------------
def _digits() -> Source:
    from sklearn.datasets import load_digits

    digits = cast(Any, load_digits())  # its type depends on arguments
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)

    def reader(index: int) -> Callable[[], np.ndarray]:
        return lambda: images[index]

    items = [Item(f"digit {index}", str(label), reader(index)) for index, label in enumerate(digits.target)]
    return Source("scikit-learn's handwritten digits, 8 x 8 pixels", items)
