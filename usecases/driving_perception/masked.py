"""Readers of road images with masks, in the layouts of published data sets."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.driving_perception.frames import Frame, Source, listed_splits, recording_of
from usecases.driving_perception.scenes import IGNORED
from usecases.images import SUFFIXES
from usecases.reading.encodings import TextFile
from usecases.reading.files import files_below
from usecases.reading.splits import SPLIT_NAMES
from usecases.reading.tables import named_rows

PAIRS = (  # folders of images and of masks; {} stands for a split
    ("{}", "{}annot"),  # CamVid as SegNet's repository has it
    ("{}", "{}_labels"),
    ("leftImg8bit/{}", "gtFine/{}"),  # Cityscapes
    ("leftImg8bit/{}", "gtCoarse/{}"),
    *((f"{images}/{{}}", f"{masks}/{{}}") for images in ("images", "image", "img") for masks in ("masks", "labels", "annotations", "mask")),
    *((f"{{}}/{images}", f"{{}}/{masks}") for images in ("images", "image", "img") for masks in ("masks", "labels", "annotations", "mask")),
    ("701_StillsRaw_full", "LabeledApproved_full"),  # CamVid as it was published
    ("JPEGImages", "SegmentationClass"),  # Pascal VOC
    *((images, masks) for images in ("images", "image", "img") for masks in ("masks", "labels", "annotations", "mask")),
)
CLASS_FILES = ("classes.txt", "labels.txt", "label_colors.txt", "label_colours.txt", "class_dict.csv", "classes.csv")
NO_CLASS = {"unlabelled", "unlabeled", "void", "ignore", "ignored", "unknown", "other"}
IMAGE_ENDS, MASK_ENDS = (
    ("_leftImg8bit",),
    ("_labelTrainIds", "_labelIds", "_gtFine_labelIds", "_gtCoarse_labelIds", "_L", "_mask", "_label", "_gt"),
)
CITYSCAPES = {  # number of a label to its class, of the 19 that are scored
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light", 20: "traffic sign",
    21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip


def find_masked(folder: Path, findings: Findings) -> Source | None:
    """The frames with masks in a folder; None without any.

    Raises:
        DataError: there is no list of the classes of coloured masks, or it cannot be read.
    """
    found = _pairs(folder)
    if not found:
        return None
    cityscapes = found[0][0].relative_to(folder).parts[0] == "leftImg8bit"
    layout = "Cityscapes" if cityscapes else f"{found[0][0].relative_to(folder)}/ with masks in {found[0][1].relative_to(folder)}/"
    source = Source(layout, [])
    for images, masks, split in found:
        _add_frames(source, folder, images, masks, split, findings)
    source.classes, source.colours, source.values = _classes(folder, source.frames, cityscapes)
    return source


def _pairs(folder: Path) -> list[tuple[Path, Path, str | None]]:
    """Folders of images and of masks with their splits, in the first layout that matches."""
    for images, masks in PAIRS:
        named = SPLIT_NAMES.items() if "{}" in images else [("", None)]
        there = [(folder / images.format(name), folder / masks.format(name), split) for name, split in named]
        there = [(image, mask, split) for image, mask, split in there if image.is_dir() and mask.is_dir() and _masks(mask)]
        if there:
            return there
    return []


def _add_frames(source: Source, folder: Path, images: Path, masks: Path, split: str | None, findings: Findings) -> None:
    files = {_stem(path, images, IMAGE_ENDS): path for path in files_below(images) if path.suffix.lower() in SUFFIXES}
    labels: dict[str, Path] = {}
    for path in _masks(masks):
        labels.setdefault(_stem(path, masks, MASK_ENDS), path)
    for stem in sorted(labels.keys() - files.keys()):
        findings.set_aside("mask without an image", str(labels[stem].relative_to(folder)))
    listed = listed_splits(folder / "ImageSets" / "Segmentation")
    for stem, path in files.items():
        name = str(path.relative_to(folder))
        if stem not in labels:
            source.unlabelled[name] = "image without a mask"
            continue
        source.frames.append(Frame(name, path.read_bytes, recording_of(stem), split or listed.get(stem), mask=labels[stem].read_bytes))


def _masks(folder: Path) -> list[Path]:
    return [path for path in files_below(folder) if path.suffix.lower() in SUFFIXES and not re.search(r"_(color|instanceIds)$", path.stem)]


def _stem(path: Path, folder: Path, ends: Sequence[str]) -> str:
    stem = str(path.relative_to(folder).with_suffix(""))
    for end in sorted(ends, key=len, reverse=True):
        stem = stem.removesuffix(end)
    return stem


# -- classes ----------------------------------------------------------------------------------------------------------
def _classes(
    folder: Path, frames: Sequence[Frame], cityscapes: bool
) -> tuple[list[str], dict[tuple[int, int, int], int], dict[int, int] | None]:
    """Names of classes, and the number of the class of each colour and of each value; names such as void are no classes."""
    if cityscapes:
        return list(CITYSCAPES.values()), {}, {value: number for number, value in enumerate(CITYSCAPES)}
    path = next((p for p in (folder / name for name in CLASS_FILES) if p.is_file()), None)
    if path is not None:
        listed = _listed(path)
        kept = [row for row in listed if row[0].lower() not in NO_CLASS]
        number = {name: index for index, name in enumerate(dict.fromkeys(name for name, _ in kept))}
        colours = {colour: number[name] for name, colour in kept if colour is not None}
        values = {value: number[name] for value, (name, _) in enumerate(listed) if name in number}
        return list(number), colours, values
    return _from_masks(frames)


def _listed(path: Path) -> list[tuple[str, tuple[int, int, int] | None]]:
    """Names and colours (or None), in the order of a file with lines `name` or `r g b name`, or with the columns name, r, g, b."""
    if path.suffix == ".csv":
        rows = named_rows(path, "", Findings())
        return [(row["name"].strip(), (int(row["r"]), int(row["g"]), int(row["b"]))) for row in rows]
    found: list[tuple[str, tuple[int, int, int] | None]] = []
    for line in filter(None, map(str.strip, TextFile(path, "", Findings()).lines())):
        coloured = re.match(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(.+)", line)
        if coloured:
            red, green, blue, name = coloured.groups()
            found.append((name.strip(), (int(red), int(green), int(blue))))
        else:
            found.append((line, None))
    if not found:
        raise DataError(f"{path} contains no class. Write one name per line, or `red green blue name` if masks are coloured.")
    return found


def _from_masks(frames: Sequence[Frame]) -> tuple[list[str], dict[tuple[int, int, int], int], dict[int, int] | None]:
    """Classes without a list: each value of the masks is a class. Coloured masks need a list."""
    seen: set[int] = set()
    for frame in frames[:: max(1, len(frames) // 100)]:
        assert frame.mask is not None
        with Image.open(io.BytesIO(frame.mask())) as mask:
            if mask.mode not in ("L", "P", "1", "I", "I;16"):
                raise DataError(
                    f"The mask of {frame.name} is coloured, and there is no list of the colours of classes. "
                    "Add label_colors.txt with a line `red green blue name` for each class."
                )
            seen |= set(np.unique(np.asarray(mask)).tolist())
    values = sorted(seen - {IGNORED})
    return [f"class {value}" for value in values], {}, {value: number for number, value in enumerate(values)}
