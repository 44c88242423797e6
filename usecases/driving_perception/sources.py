"""What is behind `--usecase.data`: one folder or several, each in a layout that tells what it knows of its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.driving_perception.boxed import find_boxed
from usecases.driving_perception.crops import find_crops
from usecases.driving_perception.drives import find_drives
from usecases.driving_perception.frames import Frame, Source, scenario_of
from usecases.driving_perception.masked import find_masked
from usecases.images import SUFFIXES
from usecases.reading.files import files_in, unwrap

Find = Callable[[Path, Findings], Source | None]
LAYOUTS: dict[Find, str] = {
    find_masked: "images with masks (train/ beside trainannot/, images/ beside masks/, leftImg8bit/ beside gtFine/, JPEGImages/ beside "
    "SegmentationClass/)",
    find_boxed: "with boxes (image_2/ beside label_2/, images/ beside labels/ of YOLO, COCO's JSON, Pascal VOC's XML)",
    find_drives: "recorded drives (driving_log.csv, tubs of a Donkeycar)",
}
"""Each reads what it knows of the pictures in a folder, or returns None; what several know of one picture is joined."""
ALONE: dict[Find, str] = {find_crops: "signs or lights by themselves in a folder for each kind"}
"""The same, for folders in which none of `LAYOUTS` is found."""


def find_sources(data: str, findings: Findings) -> list[Source]:
    """One source for each of the folders that `data` names, with commas between them.

    Raises:
        DataError: there is nothing, or nothing known.
    """
    parts = parts_of(data)
    sources = [_find(part, findings) for part in parts]
    for part, source in zip(parts, sources, strict=True):
        name = Path(part).name if len(parts) > 1 else ""
        source.frames = [_called(frame, name) for frame in source.frames]
    return sources


def _called(frame: Frame, folder: str) -> Frame:
    """With the name of its data folder, where there are several, and the scenario that its names tell."""
    scenario = frame.scenario or scenario_of(frame.name) or folder
    return replace(frame, name=f"{folder}/{frame.name}".removeprefix("/"), scenario=scenario)


def parts_of(data: str) -> list[str]:
    """The folders that `data` names, or "sample"."""
    return [part.strip() for part in data.split(",") if part.strip()] if not Path(data).exists() else [data]


def _find(part: str, findings: Findings) -> Source:
    if part == "sample":
        from usecases.driving_perception.sample import sample

        return sample()
    folder = _root(Path(part))
    for layouts in (LAYOUTS, ALONE):
        found = [source for find in layouts if (source := find(folder, findings))]
        if found:
            return _joined(found, findings)
    known = ", ".join([*LAYOUTS.values()]) + f", and {', '.join(ALONE.values())}"
    raise DataError(f"No images with masks, boxes, steering or signs were found in --usecase.data {part}. Known are {known}.")


def _root(folder: Path) -> Path:
    """The folder, or the only one that it holds."""
    if not folder.exists():
        raise DataError(f"There is nothing at --usecase.data {folder}.")
    if not folder.is_dir():
        raise DataError(f"--usecase.data {folder} is a file; a folder of images and what is known of them was expected.")
    return unwrap(folder, lambda files, inside: not files and not any(path.suffix.lower() in SUFFIXES for path in files_in(inside)))


def _joined(found: Sequence[Source], findings: Findings) -> Source:
    """All that is known of each picture of one folder."""
    frames: dict[str, Frame] = {}
    for source in found:
        for frame in source.frames:
            there = frames.get(frame.name)
            frames[frame.name] = frame if there is None else _both(there, frame)
    for source in found:
        for name, what in source.unlabelled.items():
            if name not in frames:
                findings.set_aside(what, name)
    first = next((source for source in found if source.classes), found[0])
    return replace(first, layout=", ".join(source.layout for source in found), frames=list(frames.values()))


def _both(one: Frame, other: Frame) -> Frame:
    """What `one` knows, and of the rest what `other` does."""
    known = {field.name: getattr(one, field.name) for field in fields(one)}
    return replace(other, **{name: value for name, value in known.items() if value is not None})
