"""Detect the layouts of the folders in `--usecase.data`, and join the labels that they have for each frame."""

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
    find_masked: "images with masks (train/ and trainannot/, images/ and masks/, leftImg8bit/ and gtFine/, JPEGImages/ and SegmentationClass/)",
    find_boxed: "images with boxes (image_2/ and label_2/ of KITTI, images/ and labels/ of YOLO, COCO's JSON, Pascal VOC's XML)",
    find_drives: "recorded drives (driving_log.csv, Donkeycar tubs)",
}
"""Readers of layouts with their descriptions. A reader returns None for a folder in another layout; labels of one image from several are joined."""
ALONE: dict[Find, str] = {find_crops: "crops of signs or lights in a folder for each class"}
"""Readers for folders in which none of `LAYOUTS` is found."""


def find_sources(data: str, findings: Findings) -> list[Source]:
    """One source for each of the comma-separated folders in `data`.

    Raises:
        DataError: a folder does not exist, or its layout is unknown.
    """
    parts = parts_of(data)
    sources = [_find(part, findings) for part in parts]
    for part, source in zip(parts, sources, strict=True):
        name = Path(part).name if len(parts) > 1 else ""
        source.frames = [_called(frame, name) for frame in source.frames]
    return sources


def _called(frame: Frame, folder: str) -> Frame:
    """The frame with the name of its data folder, if there are several, and with the scenario that its names contain."""
    scenario = frame.scenario or scenario_of(frame.name) or folder
    return replace(frame, name=f"{folder}/{frame.name}".removeprefix("/"), scenario=scenario)


def parts_of(data: str) -> list[str]:
    """The folders in `data`, or "sample"."""
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
    raise DataError(f"No images with masks, boxes, steering or signs were found in --usecase.data {part}. Known layouts are {known}.")


def _root(folder: Path) -> Path:
    """The folder, or the folder in it if it contains nothing else."""
    if not folder.exists():
        raise DataError(f"--usecase.data {folder} does not exist. Give a folder, several with commas between them, or 'sample'.")
    if not folder.is_dir():
        raise DataError(f"--usecase.data {folder} is a file; expected a folder of images with labels.")
    return unwrap(folder, lambda files, inside: not files and not any(path.suffix.lower() in SUFFIXES for path in files_in(inside)))


def _joined(found: Sequence[Source], findings: Findings) -> Source:
    """Join the labels of each image of one folder from several layouts."""
    frames: dict[str, Frame] = {}
    for source in found:
        for frame in source.frames:
            earlier = frames.get(frame.name)
            frames[frame.name] = frame if earlier is None else _both(earlier, frame)
    for source in found:
        for name, what in source.unlabelled.items():
            if name not in frames:
                findings.set_aside(what, name)
    first = next((source for source in found if source.classes), found[0])
    return replace(first, layout=", ".join(source.layout for source in found), frames=list(frames.values()))


def _both(one: Frame, other: Frame) -> Frame:
    """The labels of `one`, and those that it lacks from `other`."""
    known = {field.name: getattr(one, field.name) for field in fields(one)}
    return replace(other, **{name: value for name, value in known.items() if value is not None})
