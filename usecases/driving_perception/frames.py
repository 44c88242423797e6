"""Frames and their labels, as the readers of all layouts return them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tasks.contract.findings import Findings
from usecases.images import decode
from usecases.reading.encodings import TextFile
from usecases.reading.splits import SPLIT_NAMES

SCENARIOS = frozenset({"day", "night", "dusk", "dawn", "rain", "fog", "snow", "sun", "clear", "overcast", "tunnel"})
FRAME = re.compile(r"[_\-]?[a-zA-Z]?\d+$")  # the number of a frame in its recording


@dataclass(frozen=True)
class Box:
    """A labelled box in pixels of its image. Without a label it is a region that is ignored."""

    label: str
    left: float
    top: float
    right: float
    bottom: float

    def scaled(self, across: float, down: float) -> Box:
        """The box with its horizontal and vertical coordinates multiplied by two factors."""
        return Box(self.label, self.left * across, self.top * down, self.right * across, self.bottom * down)


@dataclass(frozen=True)
class Frame:
    """An image that is not read yet, with its labels; a label that is missing is None.

    Attributes:
        name: its path in the data folder.
        image: reads the bytes of the image file.
        recording: the recording that it belongs to.
        split: train, validation or test, if splits are given.
        scenario: such as night; empty without one.
        mask: reads the bytes of the mask's file.
        boxes: the boxes in pixels, for a width and a height of the image.
        steering: from -1 (left) to 1 (right), or in radians.
        throttle: in the unit of the recording.
        speed: in the unit of the recording.
        moment: its number in the recording, if images were taken at equal intervals.
        side: direction in which the steering of a side camera is corrected, from -1 to 1; 0: the centre camera.
        signal: class of the sign or light that it shows.
        region: left, upper, right and lower in pixels of the part of the image that is used.
    """

    name: str
    image: Callable[[], bytes]
    recording: str
    split: str | None = None
    scenario: str = ""
    mask: Callable[[], bytes] | None = None
    boxes: Callable[[int, int], Sequence[Box]] | None = None
    steering: float | None = None
    throttle: float | None = None
    speed: float | None = None
    moment: int | None = None
    side: float = 0.0
    signal: str | None = None
    region: tuple[int, int, int, int] | None = None

    def picture(self) -> Image.Image:
        """The decoded image. Raises `UnusableImage`: the file is not an image, or damaged; `OSError`: it cannot be read."""
        image = decode(self.image())
        return image.crop(self.region) if self.region else image


@dataclass
class Source:
    """The frames of one folder, its classes, and the number of the class of each colour and each value in its masks.

    `unlabelled` are images that should have a label in this layout and have none, with the name of what is missing.
    """

    layout: str
    frames: list[Frame]
    classes: list[str] = field(default_factory=list)
    colours: dict[tuple[int, int, int], int] = field(default_factory=dict)
    values: dict[int, int] | None = None
    unlabelled: dict[str, str] = field(default_factory=dict)


def recording_of(stem: str) -> str:
    """The recording of a frame: its name without the number at the end, or its folder if the name is only a number."""
    return FRAME.sub("", stem) or str(Path(stem).parent)


def scenario_of(name: str) -> str:
    """The scenario in the name of a frame or of its folders, the innermost first: `rgb/night/train/a.png`, `rain_0012.jpg`; empty without one."""
    return next((word for word in reversed(re.findall(r"[a-z]+", name.lower())) if word in SCENARIOS), "")


def listed_splits(folder: Path) -> dict[str, str]:
    """The split of each image by its stem, from train.txt, val.txt and test.txt (Pascal VOC)."""
    splits = {}
    for name, split in SPLIT_NAMES.items():
        path = folder / f"{name}.txt"
        for line in TextFile(path, "", Findings()).lines() if path.is_file() else []:
            if line.strip():
                splits[line.split()[0]] = split
    return splits
