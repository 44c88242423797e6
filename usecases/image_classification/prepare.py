"""Read, check and split images, and write them as arrays that training reads from disk batch by batch."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from tasks.contract.cores import cores
from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from tasks.contract.types import Arrays, Say
from usecases.image_classification.layouts import find_source
from usecases.images import UnusableImage, as_png, decode, has_colour, to_pixels
from usecases.reading.class_folders import Item
from usecases.reading.labels import by_number, note_similar_names
from usecases.reading.splits import SPLITS, complete, leaks

if TYPE_CHECKING:
    from usecases.image_classification import ImageSettings

T = TypeVar("T")
SMALL = 96  # pixels to a side: square images of one size up to this are not resized
MIN_SIDE, MAX_SIDE, STEP = 16, 128, 8  # others are resized to the square of their median area, in multiples of STEP within these bounds
SAY_EVERY = 100
AHEAD = 64  # images decoded ahead of the one that is written


class StoredImages:
    """One split of a prepared data set, read from disk batch by batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.labels = np.load(folder / "labels.npy")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: np.ndarray) -> Arrays:
        """image uint8 [B, C, H, W] and label int64 [B]."""
        return {"image": np.ascontiguousarray(self.images[indices]), "label": self.labels[indices]}

    def names(self, indices: np.ndarray) -> list[str]:
        """The file or row that each example was read from."""
        listed = (self.folder / "names.txt").read_text(encoding="utf-8").splitlines()
        return [listed[i] for i in indices]


class ImageInfo:
    """Size, colour and content digest of an image."""

    def __init__(self, image: Image.Image) -> None:
        self.size = image.size
        self.colour = has_colour(image)
        self.content = hashlib.blake2b(repr((image.size, image.mode)).encode() + image.tobytes(), digest_size=16).hexdigest()


def prepare(settings: ImageSettings, folder: Path, say: Say) -> dict[str, Any]:
    """Read and check every image, choose size and channels, and write arrays, assets and an example.

    Args:
        settings: those that are declared with `prepare=True` are read.
        folder: an empty folder that is written.
        say: called with the progress.

    Returns:
        The card of the data set.

    Raises:
        DataError: too many images are unusable, or too few are left.
    """
    source = find_source(settings)
    findings, total = source.findings, len(source.items) + source.findings.unusable
    if not total:
        raise DataError(f"No images were found in --usecase.data {settings.data}.")
    items, infos = _look(source.items, findings, say)
    findings.refuse_past(settings.tolerance, total, "images")
    items, infos, splits = _split(items, infos, findings, settings)
    labels = sorted({item.label for item in items}, key=by_number)
    _check(items, splits, labels, findings)
    size = settings.size or _common_size([s.size for s in infos])
    channels = 1 if settings.channels == "grey" or (settings.channels == "auto" and not any(s.colour for s in infos)) else 3
    for split in SPLITS:
        chosen = [item for item, name in zip(items, splits, strict=True) if name == split]
        _write(folder / split, chosen, labels, size, channels, say)
    mean, std = _statistics(np.load(folder / "train" / "images.npy", mmap_mode="r"))
    (folder / "assets").mkdir(exist_ok=True)
    assets = {"size": size, "channels": channels, "labels": labels, "mean": mean, "std": std}
    (folder / "assets" / "image.json").write_text(json.dumps(assets, ensure_ascii=False), encoding="utf-8")
    _example(folder, next(item for item, name in zip(items, splits, strict=True) if name == "test"))
    counts = {split: Counter(item.label for item, name in zip(items, splits, strict=True) if name == split) for split in SPLITS}
    return {
        "layout": source.layout,
        "sizes": {split: sum(counts[split].values()) for split in SPLITS},
        "labels": labels,
        "counts": {split: {label: counts[split][label] for label in labels} for split in SPLITS},
        "findings": findings.listed(),
        "pixels": f"{size} x {size}, {'grey' if channels == 1 else 'RGB'}",
    }


# -- looking ----------------------------------------------------------------------------------------------------------
def _look(items: Sequence[Item], findings: Findings, say: Say) -> tuple[list[Item], list[ImageInfo]]:
    kept, infos = [], []
    for item, result in zip(items, _in_threads(_try_open, _counted(items, "checking", say)), strict=True):
        if isinstance(result, ImageInfo):
            kept.append(item)
            infos.append(result)
        else:
            findings.set_aside("unreadable image", f"{item.name}: {result}")
    return kept, infos


def _try_open(item: Item, data: bytes | np.ndarray | str) -> ImageInfo | str:
    if isinstance(data, str):
        return data
    try:
        return ImageInfo(_opened(item, data))
    except UnusableImage as reason:
        return str(reason)


def _opened(item: Item, data: bytes | np.ndarray) -> Image.Image:
    image = Image.fromarray(data) if isinstance(data, np.ndarray) else decode(data)
    return image.crop(item.box) if item.box else image


def _split(
    items: list[Item], infos: list[ImageInfo], findings: Findings, settings: ImageSettings
) -> tuple[list[Item], list[ImageInfo], list[str]]:
    """Assign splits; images whose copies would be in two splits are removed from one."""
    contents = [s.content for s in infos]
    groups = [item.group or content for item, content in zip(items, contents, strict=True)]
    given = [item.split for item in items]
    labels = [item.label for item in items]
    splits = complete(given, labels, groups, settings.validation_share, settings.test_share, settings.split_seed)
    _note_copies(items, contents, findings)
    doubled = dict(leaks(splits, contents))
    for copy, original in doubled.items():
        findings.note("identical image in two splits", f"{items[copy].name} = {items[original].name}", f"removed from {splits[copy]}")
    keep = [i for i in range(len(items)) if i not in doubled]
    return [items[i] for i in keep], [infos[i] for i in keep], [splits[i] for i in keep]


def _note_copies(items: Sequence[Item], contents: Sequence[str], findings: Findings) -> None:
    first: dict[str, Item] = {}
    for item, content in zip(items, contents, strict=True):
        original = first.setdefault(content, item)
        if original is item:
            continue
        if original.label != item.label:
            findings.note("identical images with different labels", f"{item.name} ({item.label}) = {original.name} ({original.label})")
        else:
            findings.note("identical images of one class", f"{item.name} = {original.name}", "kept, in one split")


def _check(items: Sequence[Item], splits: Sequence[str], labels: Sequence[str], findings: Findings) -> None:
    if len(labels) < 2:
        raise DataError(f"There is only one class, {labels[0] if labels else 'none'!r}. Classification needs at least two classes.")
    per_class = Counter(item.label for item in items)
    learnt = Counter(item.label for item, split in zip(items, splits, strict=True) if split == "train")
    for label in labels:
        if per_class[label] == 1:
            findings.note("class with a single image", label, "used for training; it has no test image")
        if not learnt[label]:
            findings.note("class without training images", label, "kept; the network cannot learn it")
    note_similar_names(labels, findings, "class names that differ only in spelling")
    for split in SPLITS:
        if split not in splits:
            raise DataError(
                f"No image is left for the {split} split: there are {len(items)} images in {len(labels)} classes. Add images, at least three per class."
            )


def _common_size(sizes: Sequence[tuple[int, int]]) -> int:
    """The side of all images: their own if they are square, small and of one size, else that of a square of their median area."""
    if len(set(sizes)) == 1 and sizes[0][0] == sizes[0][1] <= SMALL:
        return sizes[0][0]
    side = float(np.median([width * height for width, height in sizes])) ** 0.5
    return max(MIN_SIDE, min(MAX_SIDE, round(side / STEP) * STEP))


# -- writing ----------------------------------------------------------------------------------------------------------
def _write(folder: Path, items: Sequence[Item], labels: Sequence[str], size: int, channels: int, say: Say) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    number = {label: index for index, label in enumerate(labels)}
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (len(items), channels, size, size))

    def pixels(item: Item, data: bytes | np.ndarray | str) -> np.ndarray:
        assert not isinstance(data, str), data
        return to_pixels(_opened(item, data), size, channels)

    for row, image in enumerate(_in_threads(pixels, _counted(items, f"writing {folder.name}", say))):
        images[row] = image
    images.flush()
    np.save(folder / "labels.npy", np.array([number[item.label] for item in items], dtype=np.int64))
    (folder / "names.txt").write_text("".join(item.name.replace("\n", " ") + "\n" for item in items), encoding="utf-8")


def _in_threads(work: Callable[[Item, bytes | np.ndarray | str], T], items: Iterable[Item]) -> Iterator[T]:
    """The results in the order of the items. Files are read one after the other and decoded by a few threads."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(cores()) as pool:
        for item in items:
            waiting.append(pool.submit(work, item, _read(item)))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(item: Item) -> bytes | np.ndarray | str:
    """The content of an image file, or the reason why it cannot be read."""
    try:
        return item.read()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _counted(items: Sequence[Item], what: str, say: Say) -> Iterator[Item]:
    for number, item in enumerate(items):
        if number % SAY_EVERY == 0:
            say(f"{what} {number:,} of {len(items):,} images")
        yield item


def _statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in [0, 1], without loading all images at once."""
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(images), 1024):
        part = images[start : start + 1024].astype(np.float64) / 255
        count += part.shape[0] * part.shape[2] * part.shape[3]
        total = total + part.sum(axis=(0, 2, 3))
        squares = squares + np.square(part).sum(axis=(0, 2, 3))
    mean = np.asarray(total) / count
    std = np.sqrt(np.maximum(np.asarray(squares) / count - np.square(mean), 1e-6))
    return [round(float(v), 6) for v in mean], [round(float(v), 6) for v in std]


def _example(folder: Path, item: Item) -> None:
    """Write a test image in full resolution as an example request."""
    data = item.read()
    (folder / "example.png").write_bytes(as_png(_opened(item, data)))
