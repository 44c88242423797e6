"""Readers of road images with boxes: label files of KITTI, text files of YOLO, COCO's JSON, Pascal VOC's XML."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.driving_perception.frames import Box, Frame, Source, listed_splits, recording_of
from usecases.images import SUFFIXES
from usecases.reading.encodings import TextFile
from usecases.reading.files import files_below, subfolders
from usecases.reading.splits import split_of, split_of_folder

NAME_FILES = ("data.yaml", "dataset.yaml", "data.yml", "obj.names", "classes.txt", "_darknet.labels", "classes.names")
KITTI_COLUMNS = 8  # type, truncation, occlusion, angle and the four sides; the others are three-dimensional
UNLABELLED = {"dontcare", "dont care", "ignore", "ignored"}
LEFT_OUT = "left out"


def find_boxed(folder: Path, findings: Findings) -> Source | None:
    """The frames with boxes in a folder; None without any.

    Raises:
        DataError: labels are numbers, and there is no list of their names.
    """
    files = files_below(folder)
    for layout, read in LAYOUTS.items():
        frames = list(read(folder, files, findings))
        if frames:
            return Source(layout, frames)
    return None


# -- KITTI ------------------------------------------------------------------------------------------------------------
def _kitti(folder: Path, files: Sequence[Path], findings: Findings) -> Iterator[Frame]:
    for labels in _folders_named("label_2", folder, files):
        texts = {path.stem: path for path in files if path.parent == labels and path.suffix == ".txt"}
        yield from _with_texts(folder, labels.with_name("image_2"), texts, _kitti_boxes, None, findings)


def _kitti_boxes(path: Path, findings: Findings) -> Callable[[int, int], Sequence[Box]]:
    boxes = []
    for number, line in enumerate(TextFile(path, "", findings).lines(), 1):
        cells = line.split()
        sides = _numbers(cells[4:KITTI_COLUMNS])
        if len(cells) < KITTI_COLUMNS or sides is None:
            findings.note("label that cannot be read", f"{path.name} line {number}", LEFT_OUT)
            continue
        boxes.append(Box(_label(cells[0]), *sides))
    return _always(boxes)


# -- YOLO -------------------------------------------------------------------------------------------------------------
def _yolo(folder: Path, files: Sequence[Path], findings: Findings) -> Iterator[Frame]:
    pairs = list(_yolo_folders(folder, files))
    if not pairs:
        return
    names = _names(folder, files, findings)
    for images, labels in pairs:
        texts = {
            str(path.relative_to(labels).with_suffix("")): path
            for path in files
            if path.suffix == ".txt" and path.name not in NAME_FILES and path.is_relative_to(labels)
        }
        yield from _with_texts(folder, images, texts, partial(_yolo_boxes, names), split_of_folder(images.relative_to(folder)), findings)


def _yolo_folders(folder: Path, files: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Folders of images and of their labels, which may be the same."""
    texts = [path for path in files if path.suffix == ".txt"]
    named = _folders_named("labels", folder, [path for path in texts if path.name not in NAME_FILES])
    for labels in named:
        images = labels.with_name("images")
        inside = [path for path in subfolders(labels) if (images / path.name).is_dir()]
        if images.is_dir():
            yield from [(images / path.name, path) for path in inside] or [(images, labels)]
    if not named and _name_file(files):
        mixed = {path.parent for path in texts if any(path.with_suffix(end).is_file() for end in SUFFIXES)}
        yield from ((path, path) for path in sorted(mixed))


def _name_file(files: Sequence[Path]) -> Path | None:
    return next((path for name in NAME_FILES for path in files if path.name == name), None)


def _names(folder: Path, files: Sequence[Path], findings: Findings) -> list[str]:
    path = _name_file(files)
    if path is None:
        raise DataError(
            f"{folder} has labels of YOLO, which are numbers, and no list names them. Write classes.txt with one name per line."
        )
    if path.suffix not in (".yaml", ".yml"):
        return [line.strip() for _, line in TextFile(path, "", findings).numbered()]
    try:
        listed = yaml.safe_load(TextFile(path, "", findings).text()).get("names")
    except (yaml.YAMLError, AttributeError):
        listed = None
    if isinstance(listed, dict) and all(isinstance(number, int) for number in listed):
        listed = [listed.get(number, f"class {number}") for number in range(max(listed) + 1)]
    if not isinstance(listed, list) or not listed:
        raise DataError(f"{path} does not name the classes. Add a line such as `names: [car, person]`.")
    return [str(name) for name in listed]


def _yolo_boxes(names: Sequence[str], path: Path, findings: Findings) -> Callable[[int, int], Sequence[Box]]:
    """Boxes of lines with a class and either centre and size or the corners of a polygon, as shares of the image's width and height."""
    boxes = []
    for number, line in enumerate(TextFile(path, "", findings).lines(), 1):
        cells = _numbers(line.split())
        if not line.strip():
            continue
        if cells is None or len(cells) < 5 or len(cells) % 2 == 0:
            findings.note("label that cannot be read", f"{path.name} line {number}", LEFT_OUT)
        elif not 0 <= cells[0] < len(names):
            findings.note("label with a class that is not in the list", f"{path.name} line {number}: {cells[0]:g}", LEFT_OUT)
        else:
            boxes.append(_of_shares(names[int(cells[0])], cells[1:]))
    return lambda width, height: [box.scaled(width, height) for box in boxes]


def _of_shares(label: str, cells: Sequence[float]) -> Box:
    if len(cells) > 4:
        return Box(_label(label), min(cells[::2]), min(cells[1::2]), max(cells[::2]), max(cells[1::2]))
    x, y, width, height = cells
    return Box(_label(label), x - width / 2, y - height / 2, x + width / 2, y + height / 2)


# -- COCO -------------------------------------------------------------------------------------------------------------
def _coco(folder: Path, files: Sequence[Path], findings: Findings) -> Iterator[Frame]:
    found = [(path, content) for path in files if path.suffix == ".json" and (content := _coco_file(path))]
    if not found:
        return
    pictures = _pictures(files)
    for path, content in found:
        names = {row.get("id"): str(row.get("name")) for row in content["categories"]}
        boxes: dict[Any, list[Box]] = defaultdict(list)
        for row in content["annotations"]:
            sides = row.get("bbox") or []
            label = names.get(row.get("category_id"))
            where = f"{path.relative_to(folder)} annotation {row.get('id')}"
            if label is None:
                findings.note("label with a class that is not in the list", f"{where}: {row.get('category_id')}", LEFT_OUT)
            elif len(sides) != 4 or _numbers(sides) is None:
                findings.note("label that cannot be read", where, LEFT_OUT)
            else:
                x, y, width, height = (float(side) for side in sides)
                boxes[row.get("image_id")].append(Box("" if row.get("iscrowd") else _label(label), x, y, x + width, y + height))
        for row in content["images"]:
            named = str(row.get("file_name", ""))
            paths = [Path(os.path.normpath(start / named)) for start in (path.parent, folder)]
            picture = next((p for p in paths if p.is_relative_to(folder) and p.is_file()), None)  # others are not in the digest
            picture = picture or _nearest(pictures[Path(named).stem], path, folder)
            if picture is None:
                findings.set_aside("label that names a missing image", f"{path.relative_to(folder)}: {named}")
                continue
            split = split_of(path.relative_to(folder)) or split_of_folder(picture.relative_to(folder).parent)
            yield _frame(folder, picture, split, _always(boxes.get(row.get("id"), [])))


def _coco_file(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(TextFile(path, "", Findings()).text())
    except (ValueError, OSError):
        return None
    known = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations", "categories"))
    return content if known else None


# -- Pascal VOC -------------------------------------------------------------------------------------------------------
def _voc(folder: Path, files: Sequence[Path], findings: Findings) -> Iterator[Frame]:
    annotations = [path for path in files if path.suffix == ".xml"]
    if not annotations:
        return
    pictures = _pictures(files)
    listed = listed_splits(folder / "ImageSets" / "Main")
    for path in annotations:
        name = str(path.relative_to(folder))
        try:
            root = ElementTree.parse(path).getroot()
        except ElementTree.ParseError as error:
            findings.set_aside("label file that is not XML", f"{name}: {error}")
            continue
        if root.tag != "annotation":
            continue
        same = pictures[path.stem] or pictures[Path(root.findtext("filename") or "").stem]
        picture = _nearest(same, path, folder)
        if picture is None:
            findings.set_aside("label that names a missing image", name)
            continue
        split = listed.get(path.stem) or split_of_folder(path.relative_to(folder).parent)
        yield _frame(folder, picture, split, _always(list(_voc_boxes(root, name, findings))))


def _voc_boxes(root: ElementTree.Element, name: str, findings: Findings) -> Iterator[Box]:
    """Boxes of an annotation; objects that are marked as difficult are ignored, as in Pascal VOC's own scores."""
    for number, thing in enumerate(root.iter("object"), 1):
        label = (thing.findtext("name") or "").strip()
        sides = _numbers([thing.findtext(f"bndbox/{side}") or "" for side in ("xmin", "ymin", "xmax", "ymax")])
        if not label or sides is None:
            findings.note("label that cannot be read", f"{name} object {number}", LEFT_OUT)
            continue
        yield Box("" if thing.findtext("difficult") == "1" else _label(label), *sides)


LAYOUTS: dict[str, Callable[[Path, Sequence[Path], Findings], Iterator[Frame]]] = {
    "label files of KITTI": _kitti,
    "COCO": _coco,
    "Pascal VOC": _voc,
    "YOLO": _yolo,
}


# -- shared helpers ----------------------------------------------------------------------------------------------------
def _with_texts(
    folder: Path,
    images: Path,
    files: dict[str, Path],
    read: Callable[[Path, Findings], Callable[[int, int], Sequence[Box]]],
    split: str | None,
    findings: Findings,
) -> Iterator[Frame]:
    """Images with the text files of the same name; an image without one has no objects."""
    paths = [path for path in files_below(images) if path.suffix.lower() in SUFFIXES] if images.is_dir() else []
    stems = {str(path.relative_to(images).with_suffix("")): path for path in paths}
    for stem in sorted(files.keys() - stems.keys()):
        findings.set_aside("label that names a missing image", str(files[stem].relative_to(folder)))
    for stem, path in stems.items():
        if stem not in files:
            findings.note("image without a label file", str(path.relative_to(folder)), "kept: it has no objects")
        yield _frame(folder, path, split, read(files[stem], findings) if stem in files else _always([]))


def _frame(folder: Path, picture: Path, split: str | None, boxes: Callable[[int, int], Sequence[Box]]) -> Frame:
    name = picture.relative_to(folder)
    return Frame(str(name), picture.read_bytes, recording_of(str(name.with_suffix(""))), split, boxes=boxes)


def _folders_named(name: str, folder: Path, files: Sequence[Path]) -> list[Path]:
    """The folders of a name below a folder that hold some of the files."""
    depth = len(folder.parts)
    found = {
        Path(*path.parts[: place + 1]) for path in files for place, part in enumerate(path.parts[:-1]) if place >= depth and part == name
    }
    return sorted(found)


def _pictures(files: Sequence[Path]) -> dict[str, list[Path]]:
    """All images by their stem, which images of several splits may share."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in SUFFIXES and path.parent.name != "SegmentationClass":
            found[path.stem].append(path)
    return found


def _nearest(pictures: Sequence[Path], label: Path, folder: Path) -> Path | None:
    """Of images of one name the one next to the label file, else one of the same split."""
    split = split_of(label.relative_to(folder))
    return max(pictures, key=lambda p: (p.parent == label.parent, split_of_folder(p.relative_to(folder).parent) == split), default=None)


def _always(boxes: list[Box]) -> Callable[[int, int], Sequence[Box]]:
    return lambda _width, _height: boxes


def _label(name: str) -> str:
    return "" if name.lower() in UNLABELLED else name


def _numbers(cells: Sequence[object]) -> list[float] | None:
    try:
        numbers = [float(str(cell)) for cell in cells]
    except ValueError:
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None
