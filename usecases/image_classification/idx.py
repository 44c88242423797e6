"""IDX files as MNIST publishes them (LeCun 1998), gzipped or not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tasks.contract.errors import DataError
from usecases.reading.archives import read_unpacked
from usecases.reading.class_folders import Item, Source
from usecases.reading.splits import split_of

NAME = re.compile(r"^(?P<split>.+?)[-_.](?P<what>images|labels)[-_.]idx\d.*?(\.gz)?$", re.IGNORECASE)
UNSIGNED_BYTE = 8


def is_images(path: Path) -> bool:
    name = NAME.match(path.name)
    return name is not None and name["what"].casefold() == "images"


def read_folder(folder: Path) -> Source:
    """The images of a folder of IDX files, each with its label.

    Raises:
        DataError: labels are missing, a file is damaged, or there are more images than labels or the reverse.
    """
    found = Source("IDX files as MNIST publishes them", [])
    names = _class_names(folder)
    for path in sorted(p for p in folder.iterdir() if is_images(p)):
        labels_path = _labels_of(path)
        images, labels = read(path), read(labels_path)
        if len(images) != len(labels):
            raise DataError(
                f"{path.name} holds {len(images)} images, but {labels_path.name} {len(labels)} labels: one of the files belongs to another data set."
            )
        split = split_of(path.name)
        for index, label in enumerate(labels):
            name = names[label] if names and label < len(names) else str(label)
            found.items.append(Item(f"{path.name} image {index}", name, _reader(images, index), split))
    return found


def read(path: Path) -> np.ndarray:
    """The array in an IDX file, uint8.

    Raises:
        DataError: not an IDX file of unsigned bytes, truncated, or damaged.
    """
    data = read_unpacked(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UNSIGNED_BYTE:
        raise DataError(f"{path} is not an IDX file of unsigned bytes: its first bytes are {data[:4].hex() or 'missing'}.")
    dimensions = data[3]
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions))
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(data) < expected:
        raise DataError(f"{path} is truncated: its header announces {expected:,} bytes, the file has {len(data):,}. Download it again.")
    return np.frombuffer(data, np.uint8, offset=header, count=expected - header).reshape(shape)


def _labels_of(images: Path) -> Path:
    for candidate in images.parent.iterdir():
        name, own = NAME.match(candidate.name), NAME.match(images.name)
        if name and own and name["what"].casefold() == "labels" and name["split"] == own["split"]:
            return candidate
    raise DataError(
        f"The labels of {images} are missing: a file such as {images.name.replace('images-idx3', 'labels-idx1')} should be in the same folder."
    )


def _class_names(folder: Path) -> list[str]:
    """Class names from a text file with a name per line; empty without such a file."""
    for name in ("labels.txt", "classes.txt", "class_names.txt", "batches.meta.txt"):
        if (folder / name).is_file():
            return [line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines() if line.strip()]
    return []


def _reader(images: np.ndarray, index: int) -> Callable[[], np.ndarray]:
    return lambda: images[index]
