"""Driving advice (keep, slow, stop) from the answers of the heads, by a few readable rules. For research only: it is no safety system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from usecases.driving_perception.words import words_of

Action = Literal["keep", "slow", "stop"]
ORDER: tuple[Action, ...] = ("keep", "slow", "stop")
DRIVABLE = frozenset({"road", "lane", "lanes", "roadmarking", "lanemarking", "crosswalk", "drivable", "street"})
OBSTACLES = frozenset(
    {
        "car", "cars", "vehicle", "vehicles", "truck", "lorry", "bus", "van", "suv", "tram", "train", "caravan", "trailer", "motorcycle",
        "motorbike", "motorcyclist", "bicycle", "bike", "bicyclist", "cyclist", "rider", "person", "people", "pedestrian", "child", "animal",
    }
)  # fmt: skip
PATH_TOP, PATH_NEAR, PATH_FAR = 0.5, 0.5, 0.1  # height where the path ends, and its width at the car and at its end, as shares of the image
BEND = 0.25  # share of the width that the far end moves at full steering
MIN_SHARE = 0.002  # share of the path that an obstacle must fill
CLOSE, NEAR = 0.6, 0.3  # position of an obstacle on the path: 0 at the horizon, 1 at the car; the distance is proportional to its inverse
LITTLE, SOME = 0.3, 0.6  # share of the path that is road, below which to stop and to slow down
SHARP = 0.5  # steering from which a bend is sharp


@dataclass(frozen=True)
class Thing:
    """A detected object; `sides` are left, top, right and bottom as shares of the image's width and height."""

    label: str
    sides: tuple[float, float, float, float]


@dataclass(frozen=True)
class Advice:
    """An action and its reasons, the most serious first. `nearest` is the position of the nearest obstacle on the path, from 0 (horizon) to 1 (car), and `drivable` the share of the path that is road; None: not known."""

    action: Action
    reasons: tuple[str, ...]
    drivable: float | None
    nearest: float | None


def advise(
    mask: np.ndarray | None = None,
    classes: Sequence[str] = (),
    things: Sequence[Thing] | None = None,
    steering: float | None = None,
    trusted: bool = True,
    signal: str | None = None,
) -> Advice:
    """Advise to keep on, slow down or stop. Each head contributes some of the arguments, see `heads.head.Head.advice`.

    Args:
        mask: numbers of classes, [H, W]; None: no mask.
        classes: names of the classes of the mask.
        things: detected objects; None: no detection.
        steering: from -1 (left) to 1 (right); None: not known.
        trusted: whether there is no reason to doubt the frame.
        signal: the sign or light that the image shows; None: not known.

    Returns:
        The advice.
    """
    found: list[tuple[Action, str]] = []
    if not trusted:
        found.append(("slow", "the answer is not reliable"))
    drivable = None
    if mask is not None:
        drivable = _drivable(mask, classes, steering)
        if drivable is not None and drivable < SOME:
            found.append(("stop" if drivable < LITTLE else "slow", f"only {drivable:.0%} of the way ahead is road"))
    nearest, what = _nearest(mask, classes, things or (), steering)
    if nearest is not None and nearest >= NEAR:
        found.append(("stop" if nearest >= CLOSE else "slow", f"{what} is in the way"))
    if any(_is_red(label) for label in [*(thing.label for thing in things or ()), signal or ""]):
        found.append(("stop", "a light is red"))
    if steering is not None and abs(steering) > SHARP:
        found.append(("slow", f"the bend to the {'left' if steering < 0 else 'right'} is sharp"))
    found.sort(key=lambda one: -ORDER.index(one[0]))
    return Advice(found[0][0] if found else "keep", tuple(reason for _, reason in found), drivable, nearest)


def path(height: int, width: int, steering: float | None) -> np.ndarray:
    """The pixels that the car will drive over: a strip that narrows towards the horizon and bends with the steering.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        steering: from -1 (left) to 1 (right); None: straight.

    Returns:
        bool [height, width].
    """
    down = np.clip(((np.arange(height) + 0.5) / height - PATH_TOP) / (1 - PATH_TOP), 0, 1)[:, None]
    middle = 0.5 + BEND * float(np.clip(steering or 0.0, -1, 1)) * (1 - down)
    half = (PATH_FAR + (PATH_NEAR - PATH_FAR) * down) / 2
    across = (np.arange(width) + 0.5)[None] / width
    return (np.abs(across - middle) <= half) & (down > 0)


def _drivable(mask: np.ndarray, classes: Sequence[str], steering: float | None) -> float | None:
    road = [number for number, name in enumerate(classes) if words_of(name) & DRIVABLE]
    return float(np.isin(mask[path(mask.shape[0], mask.shape[1], steering)], road).mean()) if road else None


def _nearest(mask: np.ndarray | None, classes: Sequence[str], things: Sequence[Thing], steering: float | None) -> tuple[float | None, str]:
    """The position of the nearest obstacle on the path, from 0 (horizon) to 1 (car), and its class; None and empty without one."""
    found = []
    if mask is not None:
        ahead = path(mask.shape[0], mask.shape[1], steering)
        for number, name in enumerate(classes):
            rows = np.nonzero(ahead & (mask == number))[0] if words_of(name) & OBSTACLES else np.empty(0)
            if len(rows) >= max(MIN_SHARE * ahead.sum(), 1):
                found.append((_down(float(np.quantile(rows, 0.95) + 1) / mask.shape[0]), name))
    for thing in things:
        left, _, right, bottom = thing.sides
        row = path(100, 100, steering)[min(99, max(0, round(bottom * 100) - 1))]
        if words_of(thing.label) & OBSTACLES and row[int(left * 100) : max(int(left * 100) + 1, int(right * 100))].any():
            found.append((_down(bottom), thing.label))
    return max(found) if found else (None, "")


def _down(share: float) -> float:
    return float(np.clip((share - PATH_TOP) / (1 - PATH_TOP), 0, 1))


def _is_red(label: str) -> bool:
    return "red" in words_of(label)
