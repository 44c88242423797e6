"""What the readers of every layout find: frames, and what is known of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from usecases.images import decode
from usecases.reading.splits import SPLIT_NAMES

SCENARIOS = frozenset({"day", "night", "dusk", "dawn", "rain", "fog", "snow", "sun", "clear", "overcast", "tunnel"})
FRAME = re.compile(r"[_\-]?[a-zA-Z]?\d+$")  # what tells the frames of a recording apart


@dataclass(frozen=True)
class Box:
    """What is where, in pixels of its image. Without a label: a region that counts for nothing."""

    label: str
    left: float
    top: float
    right: float
    bottom: float

    def scaled(self, across: float, down: float) -> Box:
        return Box(self.label, self.left * across, self.top * down, self.right * across, self.bottom * down)


@dataclass(frozen=True)
class Frame:
    """A picture that is somewhere, and of what it shows what is known; the rest is None.

    `mask` are the bytes of its file; `boxes` come for a width and a height of the picture, in pixels of it; `moment` is the number of
    the picture in its recording, if they were taken at equal distances of time; `side` says where a camera beside the driver's makes one
    steer to, -1 to 1; `signal` is the sign or light that the picture shows; of a `region`, left, upper, right and lower in pixels, only that is looked at.
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
        """Raises `UnusableImage`: it is none, or damaged; `OSError`: it cannot be read."""
        image = decode(self.image())
        return image.crop(self.region) if self.region else image


@dataclass
class Source:
    """The frames of one folder, and how a mask's values become numbers of classes: of a colour, or of a value.

    `unlabelled` are pictures of which this layout knows nothing, though it should, with what is missing.
    """

    layout: str
    frames: list[Frame]
    classes: list[str] = field(default_factory=list)
    colours: dict[tuple[int, int, int], int] = field(default_factory=dict)
    values: dict[int, int] | None = None
    unlabelled: dict[str, str] = field(default_factory=dict)


def recording_of(stem: str) -> str:
    """Frames of one recording have names that differ in a number at the end, or share a folder."""
    return FRAME.sub("", stem) or str(Path(stem).parent)


def scenario_of(name: str) -> str:
    """The scenario that a folder or file of a frame is named after, the innermost: `rgb/night/train/a.png`, `rain_0012.jpg`."""
    return next((word for word in reversed(re.findall(r"[a-z]+", name.lower())) if word in SCENARIOS), "")


def listed_splits(folder: Path) -> dict[str, str]:
    """Splits by the stem of an image, from train.txt, val.txt and test.txt (Pascal VOC)."""
    splits = {}
    for name, split in SPLIT_NAMES.items():
        path = folder / f"{name}.txt"
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            if line.strip():
                splits[line.split()[0]] = split
    return splits
