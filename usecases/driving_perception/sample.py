"""Synthetic road scenes with exact labels, by day, at night, in rain and in fog. A network trained on them has not seen a real road."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from usecases.driving_perception.frames import Box, Frame, Source
from usecases.images import as_png

WIDTH, HEIGHT = 160, 120
SCENARIOS = ("day", "night", "rain", "fog")
RECORDINGS, FRAMES = 10, 8  # of each scenario; of each recording
BEND = 45.0  # pixels: largest lateral shift of the vanishing point
MIN_PIXELS = 8  # visible pixels of an object that gets a box
CLASSES = ("sky", "building", "vegetation", "pavement", "road", "lane mark", "vehicle", "person", "sign")
PAINT = (
    (130, 175, 225), (150, 130, 115), (60, 115, 55), (165, 155, 150), (85, 85, 90), (230, 230, 225), (180, 40, 45), (220, 150, 60), (225, 200, 40),
)  # fmt: skip
SKY, BUILDING, VEGETATION, PAVEMENT, ROAD, LANE, VEHICLE, PERSON, SIGN = range(len(CLASSES))


def sample() -> Source:
    """All frames of the sample."""
    frames = [
        Frame(
            name=f"{scenario}-{recording:02d}-{frame:02d}",
            image=partial(_png, scenario, recording, frame, "picture"),
            recording=f"{scenario}-{recording:02d}",
            scenario=scenario,
            mask=partial(_png, scenario, recording, frame, "mask"),
            boxes=partial(_boxes, scenario, recording, frame),
            steering=draw(scenario, recording, frame).steering,
        )
        for scenario in SCENARIOS
        for recording in range(RECORDINGS)
        for frame in range(FRAMES)
    ]
    return Source("drawn road scenes", frames, list(CLASSES), values={number: number for number in range(len(CLASSES))})


@dataclass(frozen=True)
class Drawn:
    """An image, uint8 [H, W, 3], its mask of classes, uint8 [H, W], the boxes of objects, and the steering, -1 (left) to 1 (right)."""

    picture: np.ndarray
    mask: np.ndarray
    boxes: tuple[Box, ...]
    steering: float


def _png(scenario: str, recording: int, frame: int, part: str) -> bytes:
    return as_png(Image.fromarray(getattr(draw(scenario, recording, frame), part)))


def _boxes(scenario: str, recording: int, frame: int, _width: int, _height: int) -> tuple[Box, ...]:
    return draw(scenario, recording, frame).boxes


@lru_cache(maxsize=4)
def draw(scenario: str, recording: int, frame: int) -> Drawn:
    """Draw one frame; the frames of a recording follow one road.

    Args:
        scenario: of `SCENARIOS`.
        recording: number of the recording.
        frame: its number in the recording.

    Returns:
        The frame; the same arguments give the same pixels.
    """
    place = np.random.default_rng((SCENARIOS.index(scenario), recording))
    picture, mask, things = (Image.new(mode, (WIDTH, HEIGHT)) for mode in ("RGB", "L", "L"))
    tint = place.normal(0, 14, (len(CLASSES), 3))
    brushes = [ImageDraw.Draw(image) for image in (picture, mask, things)]

    def fill(shape: str, where: list[tuple[float, float]], kind: int, shade: float = 1.0, thing: int = 0) -> None:
        colour = tuple(int(v) for v in np.clip((np.array(PAINT[kind]) + tint[kind]) * shade, 0, 255))
        for brush, ink in zip(brushes, (colour, kind, thing), strict=True):
            getattr(brush, shape)(where, fill=ink)

    horizon = HEIGHT * place.uniform(0.36, 0.5)
    bend, speed = place.uniform(-BEND, BEND), place.uniform(0.5, 1.5)
    half, far = place.uniform(0.38, 0.6) * WIDTH, 3.0
    vanish = WIDTH / 2 + bend * np.sin(0.4 * speed * frame / FRAMES * 3 + recording)
    fill("rectangle", [(0, 0), (WIDTH, HEIGHT)], SKY)
    fill("rectangle", [(0, horizon - 2), (WIDTH, HEIGHT)], VEGETATION, 0.9)
    _skyline(place, frame * speed, horizon, fill)
    for kind, side in ((PAVEMENT, half * 1.35), (ROAD, half)):
        fill("polygon", [(vanish - far, horizon), (vanish + far, horizon), (WIDTH / 2 + side, HEIGHT), (WIDTH / 2 - side, HEIGHT)], kind)
    for dash in range(5):
        near, away = (((dash + part - speed * frame * 0.4) % 5) / 5 for part in (0.0, 0.45))
        if away > near:
            fill("polygon", _strip(vanish, horizon, near, away), LANE)
    kinds = [_thing(place, frame, speed, vanish, horizon, half, partial(fill, thing=n + 1)) for n in range(int(place.integers(1, 5)))]
    lit = _weather(np.asarray(picture).astype(np.float64), scenario, horizon, np.random.default_rng((recording, frame, 7)))
    return Drawn(lit, np.asarray(mask), tuple(_seen(np.asarray(things), kinds)), float((vanish - WIDTH / 2) / BEND))


def _seen(things: np.ndarray, kinds: list[int]) -> Iterator[Box]:
    """Boxes around the visible part of each object."""
    for number, kind in enumerate(kinds, 1):
        rows, columns = np.nonzero(things == number)
        if len(rows) >= MIN_PIXELS:
            yield Box(CLASSES[kind], int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


def _skyline(place: np.random.Generator, driven: float, horizon: float, fill: object) -> None:
    assert callable(fill)
    for _ in range(int(place.integers(3, 9))):
        left, wide, high = place.uniform(-30, WIDTH), place.uniform(12, 40), place.uniform(10, horizon * 0.85)
        left += (left - WIDTH / 2) * 0.02 * driven
        if place.random() < 0.5:
            fill("rectangle", [(left, horizon - high), (left + wide, horizon + 3)], BUILDING, place.uniform(0.7, 1.25))
        else:
            fill("ellipse", [(left, horizon - high * 0.7), (left + wide, horizon + 6)], VEGETATION, place.uniform(0.7, 1.25))


def _strip(vanish: float, horizon: float, near: float, away: float) -> list[tuple[float, float]]:
    """The corners of a dash of the lane mark between two distances, 0 at the horizon and 1 at the camera, in perspective."""
    corners = []
    for share, side in ((near, -1), (near, 1), (away, 1), (away, -1)):
        down = share**2
        x, y = vanish + (WIDTH / 2 - vanish) * down, horizon + (HEIGHT - horizon) * down
        corners.append((x + side * (0.4 + 2.6 * down), y))
    return corners


def _thing(place: np.random.Generator, frame: int, speed: float, vanish: float, horizon: float, half: float, fill: object) -> int:
    """Draw a vehicle on the road, or a person or a sign next to it, nearer in each frame; returns its class."""
    assert callable(fill)
    kind = (VEHICLE, VEHICLE, PERSON, SIGN)[int(place.integers(4))]
    down = min(0.95, place.uniform(0.08, 0.7) + 0.02 * speed * frame)
    across = place.uniform(-0.7, 0.7) if kind == VEHICLE else place.choice((-1, 1)) * place.uniform(1.05, 1.3)
    x = vanish + (WIDTH / 2 - vanish) * down + across * half * down
    y, size = horizon + (HEIGHT - horizon) * down, 4 + 34 * down
    shade = place.uniform(0.6, 1.4)
    if kind == VEHICLE:
        fill("rectangle", [(x - size * 0.6, y - size * 0.55), (x + size * 0.6, y)], kind, shade)
        fill("rectangle", [(x - size * 0.4, y - size * 0.9), (x + size * 0.4, y - size * 0.5)], kind, shade * 0.6)
    elif kind == PERSON:
        fill("rectangle", [(x - size * 0.14, y - size * 0.75), (x + size * 0.14, y)], kind, shade)
        fill("ellipse", [(x - size * 0.12, y - size), (x + size * 0.12, y - size * 0.74)], kind, shade * 0.9)
    else:
        fill("rectangle", [(x - 1, y - size * 1.2), (x + 1, y)], kind, 0.5)
        fill("ellipse", [(x - size * 0.25, y - size * 1.6), (x + size * 0.25, y - size * 1.1)], kind, shade)
    return kind


def _weather(picture: np.ndarray, scenario: str, horizon: float, random: np.random.Generator) -> np.ndarray:
    """Apply light, weather and camera noise to an image, float [H, W, 3] in [0, 255]."""
    rows = np.arange(HEIGHT)[:, None, None]
    if scenario == "night":
        lit = 0.16 + 0.5 * np.clip((rows - horizon) / (HEIGHT - horizon), 0, 1) ** 1.5
        picture = picture * lit * np.array([0.85, 0.9, 1.1])
    if scenario == "fog":
        thick = np.clip(0.85 - 0.75 * (rows - horizon) / (HEIGHT - horizon), 0, 0.85)
        picture = picture * (1 - thick) + 195 * thick
    if scenario == "rain":
        streaks = Image.fromarray((random.random((HEIGHT, WIDTH)) > 0.985).astype(np.uint8) * 255)
        blurred = np.asarray(streaks.filter(ImageFilter.Kernel((5, 5), [0, 0, 1, 0, 0] * 5, 3)), dtype=np.float64)
        picture = picture * 0.62 + 35 + 0.35 * blurred[..., None]
    noisy = picture + random.normal(0, 9 if scenario == "night" else 5, picture.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
