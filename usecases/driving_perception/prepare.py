"""From sources of frames to arrays on disk that training reads as it goes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from tasks.contract.types import Say
from usecases.driving_perception.frames import Box, Frame, Source
from usecases.driving_perception.masks import colours, read_mask, resized
from usecases.driving_perception.scenes import IGNORED, NOTHING, OUTPUTS, TOLD, TURNS, UNCOUNTED, to_pixels, told
from usecases.driving_perception.sources import find_sources
from usecases.driving_perception.turning import strip, turn_between
from usecases.images import UnusableImage, as_png
from usecases.labels import by_number
from usecases.reading.splits import SPLITS, complete, leaks

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

WIDEST, WIDEST_STEERING, STEP = 512, 160, 8  # pixels: larger images are brought to that, in steps; to steer needs less
SMALLEST_SIGNAL, LARGEST_SIGNAL = 64, 96  # pixels a side of signs and lights alone
SAME_SHAPE = 0.02  # relative difference of the sides' ratios below which a mask only needs resizing
MOST_UNKNOWN = 0.5  # share of a mask's pixels that may be of no class, and of moments whose turn may not be known
FEWEST_RECORDINGS = 8  # to split by recordings; of fewer, blocks of frames are dealt out
BLOCKS = 20
THINNEST = 1.0  # pixels of the picture: a box that is less wide or high shows nothing
LEAST_SPREAD, FARTHEST = 1e-3, 6.0  # deviation of what was driven; deviations from the mean beyond which nothing is told apart
SAY_EVERY = 25


@dataclass(frozen=True)
class Seen:
    """A frame that can be used, what it comes from, its size, the boxes within it, and a digest of its pixels."""

    frame: Frame
    source: Source
    size: tuple[int, int]
    boxes: tuple[Box, ...] | None
    content: str
    turns: tuple[float, ...] = ()  # of the camera in the last moments, the latest first, see `turning`
    stretch: str = ""  # of successive frames that are dealt out together, where splits are not given

    def heads(self) -> list[str]:
        known = (self.frame.mask, self.boxes, self.frame.steering, self.frame.signal)
        return [head for head, value in zip(OUTPUTS, known, strict=True) if value is not None]


@dataclass(frozen=True)
class Labels:
    """What all sources together know: the heads to learn, the names behind their numbers, the size of the network's images, and the ratios
    of width to height that pictures have; none for signs and lights alone, which are cut out in any shape.
    """

    heads: list[str]
    classes: list[str]
    colours: list[list[int]]
    objects: list[str]
    targets: list[str]
    told: list[str]  # of `scenes.TOLD`
    signals: list[str]
    width: int
    height: int
    ratios: list[float]


def prepare(settings: DrivingPerception, folder: Path, say: Say) -> dict[str, Any]:
    """Look at every frame once, decide, then write arrays, assets and an example; returns the card of the data set.

    Raises:
        DataError: too much is unusable, or too little is left.
    """
    say("reading what is there")
    findings = Findings()
    sources = find_sources(settings.data, findings)
    total = sum(len(source.frames) for source in sources) + findings.unusable
    seen = [_look(source, findings, say) for source in sources]
    findings.refuse_past(settings.tolerance, total, "frames")
    if not any(seen):
        raise DataError(f"No frames were found in --usecase.data {settings.data}.")
    labels = _labels(settings, sources, seen)
    seen = [[one for one in frames if set(one.heads()) & set(labels.heads)] for frames in seen]
    parts = [_split(frames, settings, findings) for frames in seen if frames]
    of_split = {split: [one for part in parts for one in part[split]] for split in SPLITS}
    _check_scenario(settings.scenario, of_split)
    counts = {split: _write(folder / split, of_split[split], labels, settings, say) for split in SPLITS}
    for name, learnt in zip(labels.classes, counts["train"], strict=True):
        if not learnt:
            findings.note("class without training pixels", name, "kept; the network cannot learn it")
    _write_assets(folder, labels, counts["train"])
    (folder / "example.png").write_bytes(as_png(of_split["test"][0].frame.picture()))
    return {
        "layout": "; ".join(source.layout for source in sources),
        "heads": labels.heads,
        "told": labels.told,
        "ratios": labels.ratios,
        "sizes": {split: len(of_split[split]) for split in SPLITS},
        "labels": labels.classes or labels.objects or labels.targets or labels.signals,
        "findings": findings.listed(),
        "facts": _facts(labels, of_split, counts["train"]),
    }


Before = dict[tuple[str, float], tuple[int, np.ndarray, tuple[float, ...]]]
"""Of every camera, by recording and side, its last moment, the strip of its picture, and how it turned until then."""


# -- looking ----------------------------------------------------------------------------------------------------------
def _look(source: Source, findings: Findings, say: Say) -> list[Seen]:
    kept, unknown = [], Counter[str]()
    before: Before = {}
    for number, frame in enumerate(source.frames):
        if number % SAY_EVERY == 0:
            say(f"looking at {number:,} of {len(source.frames):,} frames")
        try:
            kept.append(_try(frame, source, before, unknown, findings))
        except UnusableImage as reason:
            findings.set_aside("unusable frame", f"{frame.name}: {reason}")
    for called, pixels in unknown.most_common():
        findings.note("pixels that the list of classes does not know", f"{called}: {pixels:,} pixels", "count for nothing", pixels)
    return kept


def _try(frame: Frame, source: Source, before: Before, unknown: Counter[str], findings: Findings) -> Seen:
    """Raises `UnusableImage`: image or mask cannot be read, do not belong together, or nothing in the mask is of a class."""
    try:
        image = frame.picture()
        mask_file = frame.mask() if frame.mask else None
    except OSError as error:
        raise UnusableImage(f"it cannot be read: {error.strerror}") from None
    if mask_file is not None:
        _try_mask(frame.name, mask_file, image.size, source, unknown, findings)
    boxes = tuple(_within(frame, *image.size, findings)) if frame.boxes else None
    content = hashlib.blake2b(repr(image.size).encode() + image.convert("RGB").tobytes(), digest_size=16).hexdigest()
    return Seen(frame, source, image.size, boxes, content, _turns(frame, image, before))


def _turns(frame: Frame, image: Image.Image, before: Before) -> tuple[float, ...]:
    """In the last moments, as far as they follow on one another; the latest first, up to `TURNS`. Keeps `before`."""
    if frame.moment is None or frame.steering is None:
        return ()
    camera, now = (frame.recording, frame.side), strip(image)
    last, view, earlier = before.get(camera, (None, now, ()))
    turns = (turn_between(view, now), *earlier)[:TURNS] if last == frame.moment - 1 else ()
    before[camera] = (frame.moment, now, turns)
    return turns


def _try_mask(name: str, file: bytes, size: tuple[int, int], source: Source, unknown: Counter[str], findings: Findings) -> None:
    mask, strange = read_mask(file, source)
    height, width = mask.shape
    if (width, height) != size:
        if abs(width / height * size[1] / size[0] - 1) > SAME_SHAPE:
            raise UnusableImage(f"the image is {size[0]} x {size[1]}, its mask {width} x {height}")
        findings.note("mask of another size than its image", name, "resized")
    if sum(strange.values()) > MOST_UNKNOWN * mask.size:
        raise UnusableImage(f"most of the mask is of no class that is listed: {', '.join(list(strange)[:3])}")
    if (mask == IGNORED).all():
        raise UnusableImage("no pixel of the mask belongs to a class")
    unknown.update(strange)


def _within(frame: Frame, width: int, height: int, findings: Findings) -> list[Box]:
    """The parts of a frame's boxes that are inside it."""
    assert frame.boxes is not None
    kept = []
    for box in frame.boxes(width, height):
        inside = Box(box.label, max(box.left, 0), max(box.top, 0), min(box.right, width), min(box.bottom, height))
        where = f"{frame.name}: {box.label} {box.left:g} {box.top:g} {box.right:g} {box.bottom:g}"
        if inside.right - inside.left < THINNEST or inside.bottom - inside.top < THINNEST:
            findings.note("box without an area inside its picture", where, "left out")
            continue
        if max(abs(a - b) for a, b in zip(_sides(inside), _sides(box), strict=True)) > THINNEST:
            findings.note("box that reaches beyond its picture", where, "cut")
        kept.append(inside)
    return kept


def _sides(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


def _labels(settings: DrivingPerception, sources: Sequence[Source], seen: Sequence[Sequence[Seen]]) -> Labels:
    """Raises `DataError`: a head is asked for that nothing is known of, or masks know one class only."""
    there = {head for frames in seen for one in frames for head in one.heads()}
    missing = [head for head in settings.heads if head not in there]
    if missing:
        raise DataError(
            f"--usecase.heads asks for {', '.join(missing)}, of which the data know nothing; they know {', '.join(sorted(there))}."
        )
    heads = [head for head in OUTPUTS if head in (settings.heads or there)]
    classes = list(dict.fromkeys(name for source in sources for name in source.classes)) if "mask" in heads else []
    if "mask" in heads and len(classes) < 2:
        raise DataError(f"The masks know only the classes {classes}: to tell what is where at least two are needed.")
    own = {name: list(colour) for source in reversed(sources) for name, colour in _own_colours(source).items()}
    objects = sorted({box.label for frames in seen for one in frames for box in one.boxes or () if box.label}) if "boxes" in heads else []
    if "boxes" in heads and not objects:
        raise DataError("Not one box was found in the labels: there is nothing to learn to find.")
    drives = [one.frame for frames in seen for one in frames if one.frame.steering is not None]
    targets = ["steering", *(["throttle"] if all(frame.throttle is not None for frame in drives) else [])] if "steering" in heads else []
    told = _told(settings, [one for frames in seen for one in frames if one.frame.steering is not None]) if targets else []
    signals = (
        sorted({one.frame.signal for frames in seen for one in frames if one.frame.signal}, key=by_number) if "signal" in heads else []
    )
    width, height = _common_size(seen, heads)
    width, height = settings.width or width, settings.height or height
    paint = [own.get(name, list(colour)) for name, colour in zip(classes, colours(len(classes)), strict=True)]
    ratios = sorted({round(across / down, 4) for across, down in _usual_sizes(seen)}) if heads != ["signal"] else []
    return Labels(heads, classes, paint, objects, targets, told, signals, width, height, ratios)


def _told(settings: DrivingPerception, drives: Sequence[Seen]) -> list[str]:
    """What the network is told beside the picture. Raises `DataError`: it is to be told what is not known."""
    known = {
        "speed": all(one.frame.speed is not None for one in drives),
        "turn": sum(bool(one.turns) for one in drives) > MOST_UNKNOWN * len(drives),
    }
    if settings.speed == "yes" and not known["speed"]:
        raise DataError("--usecase.speed yes: the speed was not recorded at every moment of the drives. Leave it auto.")
    if settings.turn == "yes" and not known["turn"]:
        raise DataError("--usecase.turn yes: most moments of the drives do not follow on one another. Leave it auto.")
    return [name for name in TOLD if known[name] and getattr(settings, name) != "no"]


def _own_colours(source: Source) -> dict[str, tuple[int, int, int]]:
    return {source.classes[number]: colour for colour, number in source.colours.items()}


def _common_size(seen: Sequence[Sequence[Seen]], heads: Sequence[str]) -> tuple[int, int]:
    """The most frequent size of the source with the largest, as wide as what is to be learnt needs; of signs and lights alone a square."""
    if heads == ["signal"]:
        side = float(np.median([one.size[0] * one.size[1] for frames in seen for one in frames])) ** 0.5
        side = min(LARGEST_SIGNAL, max(SMALLEST_SIGNAL, round(side / STEP) * STEP))
        return side, side
    widest = WIDEST_STEERING if heads == ["steering"] else WIDEST
    width, height = max(_usual_sizes(seen), key=lambda size: size[0] * size[1])
    if width > widest:
        width, height = widest, max(STEP, round(height * widest / width / STEP) * STEP)
    return width, height


def _usual_sizes(seen: Sequence[Sequence[Seen]]) -> list[tuple[int, int]]:
    """The most frequent size of each source."""
    return [Counter(one.size for one in frames).most_common(1)[0][0] for frames in seen if frames]


# -- splitting --------------------------------------------------------------------------------------------------------
def _split(seen: list[Seen], settings: DrivingPerception, findings: Findings) -> dict[str, list[Seen]]:
    """The frames of each split: as given, else whole recordings, or stretches of them where there are few. Cameras at the side are for training only."""
    given = [one.frame.split for one in seen]
    as_test = settings.dev_is_test and "validation" in given
    if settings.dev_is_test and not as_test:
        raise DataError("--usecase.dev_is_test: the data have no val folder of their own.")
    if as_test:
        findings.note("validation frames that are the test, too", "", "as asked by --usecase.dev_is_test", given.count("validation"))
        held = [one for one in seen if one.frame.split == "validation"]
        return {"train": [one for one in seen if one.frame.split in (None, "train")], "validation": held, "test": held}
    groups = _groups(seen, findings)
    seen = [replace(one, stretch=stretch) for one, stretch in zip(seen, groups, strict=True)]
    shares = settings.validation_share, settings.test_share
    alike = [one.frame.signal or one.frame.scenario for one in seen]
    splits = complete(given, alike, groups, *shares, settings.split_seed)
    left_out = dict(leaks(splits, [one.content for one in seen]))
    for copy, original in left_out.items():
        action = f"removed from {splits[copy]}"
        findings.note("identical image in two splits", f"{seen[copy].frame.name} = {seen[original].frame.name}", action)
    beside = {row for row, one in enumerate(seen) if one.frame.side and splits[row] != "train"}
    if beside:
        findings.note("side cameras of moments that are not trained on", "", "left out", len(beside))
    found = {
        name: [one for row, one in enumerate(seen) if splits[row] == name and row not in left_out and row not in beside] for name in SPLITS
    }
    for name, chosen in found.items():
        if not chosen:
            raise DataError(
                f"No frame is left for the {name} split: there are {len(seen)}, of {len(set(groups))} recordings or blocks. Record more."
            )
    return found


def _check_scenario(scenario: str, of_split: dict[str, list[Seen]]) -> None:
    """Raises `DataError`: there is no such scenario, or no other, in one of the splits."""
    if not scenario:
        return
    for split, frames in of_split.items():
        counts = Counter(one.frame.scenario for one in frames)
        if not 0 < counts[scenario] < len(frames):
            there = ", ".join(f"{name or 'unnamed'} {count:,}" for name, count in counts.most_common())
            raise DataError(
                f"--usecase.scenario {scenario}: of the {len(frames):,} frames of the {split} split {counts[scenario]:,} are of it ({there}). "
                "Adapting needs frames of it and others. Scenarios are words such as night in the names of folders or files, or data folders."
            )


def _groups(seen: Sequence[Seen], findings: Findings) -> list[str]:
    """Neighbouring frames are nearly the same picture, so what is split is recordings, or stretches of them."""
    recordings = [one.frame.recording or one.content for one in seen]
    per_scenario = Counter(
        scenario for _, scenario in {(recording, one.frame.scenario) for recording, one in zip(recordings, seen, strict=True)}
    )
    if min(per_scenario.values()) >= FEWEST_RECORDINGS:
        return recordings
    block = max(1, sum(not one.frame.side for one in seen) // BLOCKS)
    findings.note(
        "few recordings", f"{len(set(recordings))}", f"split by blocks of {block} successive frames instead", len(set(recordings))
    )
    places: Counter[str] = Counter()
    groups = []
    for recording, one in zip(recordings, seen, strict=True):
        if not one.frame.side:  # the cameras of a moment come after its middle one, and stay with it
            places[recording] += 1
        groups.append(f"{recording}/{max(places[recording] - 1, 0) // block}")
    return groups


# -- writing ----------------------------------------------------------------------------------------------------------
def _write(folder: Path, seen: Sequence[Seen], labels: Labels, settings: DrivingPerception, say: Say) -> np.ndarray:
    """Arrays and names; returns how many pixels each class has, [C]."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(seen), labels.height, labels.width)
    images = np.lib.format.open_memmap(folder / "image.npy", "w+", np.uint8, (shape[0], 3, *shape[1:]))
    masks = np.lib.format.open_memmap(folder / "mask.npy", "w+", np.uint8, shape) if "mask" in labels.heads else None
    counts = np.zeros(len(labels.classes), dtype=np.int64)
    for row, one in enumerate(seen):
        if row % SAY_EVERY == 0:
            say(f"writing {folder.name}: {row:,} of {len(seen):,} frames")
        images[row] = to_pixels(one.frame.picture(), labels.width, labels.height)
        if masks is not None:
            masks[row] = mask = _mask(one, labels)
            counts += np.bincount(mask[mask != IGNORED], minlength=len(counts))
    images.flush()
    if masks is not None:
        masks.flush()
    if "boxes" in labels.heads:
        np.save(folder / "boxes.npy", _boxes(seen, labels))
        np.save(folder / "boxed.npy", np.array([one.boxes is not None for one in seen]))
    if labels.targets:
        values = _values(seen, labels)
        if folder.name == "train":
            values = _steadied(seen, values, settings.steadiness)
        values[:, 0] += settings.side_steering * np.array([one.frame.side for one in seen], dtype=np.float32)
        np.save(folder / "values.npy", values)
    numbers = {"speed": ([(one.frame.speed,) for one in seen], 1), "turn": ([one.turns for one in seen], TURNS)}
    for name in labels.told:
        of_each, count = numbers[name]
        np.save(folder / f"{name}.npy", np.stack([told(known, count) for known in of_each]))
    if labels.signals:
        number = {kind: place for place, kind in enumerate(labels.signals)}
        np.save(folder / "signal.npy", np.array([number.get(one.frame.signal or "", NOTHING) for one in seen], dtype=np.int64))
    heads = set(labels.heads)
    frames = [
        {"name": one.frame.name, "slice": one.frame.scenario, "size": one.size, "heads": [h for h in one.heads() if h in heads]}
        for one in seen
    ]
    (folder / "frames.json").write_text(json.dumps(frames, ensure_ascii=False), encoding="utf-8")
    return counts


def _mask(one: Seen, labels: Labels) -> np.ndarray:
    if one.frame.mask is None:
        return np.full((labels.height, labels.width), IGNORED, dtype=np.uint8)
    number = np.full(256, IGNORED, dtype=np.uint8)
    number[: len(one.source.classes)] = [labels.classes.index(name) for name in one.source.classes]
    return resized(number[read_mask(one.frame.mask(), one.source)[0]], labels.width, labels.height)


def _boxes(seen: Sequence[Seen], labels: Labels) -> np.ndarray:
    """float32 [N, M, 5]: label and sides in pixels of the network's image."""
    most = max([1, *(len(one.boxes or ()) for one in seen)])
    table = np.full((len(seen), most, 5), NOTHING, dtype=np.float32)
    for row, one in enumerate(seen):
        across, down = labels.width / one.size[0], labels.height / one.size[1]
        for place, box in enumerate(one.boxes or ()):
            label = labels.objects.index(box.label) if box.label else UNCOUNTED
            table[row, place] = [label, *_sides(box.scaled(across, down))]
    return table


def _values(seen: Sequence[Seen], labels: Labels) -> np.ndarray:
    """float32 [N, K]: what the driver did; nan where that is not known."""
    rows = []
    for one in seen:
        steering = np.nan if one.frame.steering is None else one.frame.steering
        throttle = np.nan if one.frame.throttle is None else one.frame.throttle
        rows.append([steering, throttle][: len(labels.targets)])
    return np.array(rows, dtype=np.float32)


def _steadied(seen: Sequence[Seen], values: np.ndarray, steadiness: float) -> np.ndarray:
    """Smoothed along each stretch of moments; the cameras of one moment come after its middle one, and get the same."""
    smooth = values.copy()
    driven = [row for row, one in enumerate(seen) if one.frame.steering is not None]
    for _, rows in groupby(driven, lambda row: seen[row].stretch or seen[row].frame.recording):
        listed = list(rows)
        middle = [row for row in listed if not seen[row].frame.side]
        if steadiness and middle:
            places = np.maximum(np.searchsorted(middle, listed, side="right") - 1, 0)
            smooth[listed] = gaussian_filter1d(values[middle], steadiness, axis=0, mode="nearest")[places]
    return smooth


def _write_assets(folder: Path, labels: Labels, counts: np.ndarray) -> None:
    images = np.load(folder / "train" / "image.npy", mmap_mode="r")
    some = images[:: max(1, len(images) // 256)].astype(np.float64) / 255
    card: dict[str, Any] = {
        "width": labels.width,
        "height": labels.height,
        "heads": labels.heads,
        "ratios": labels.ratios,
        "mean": some.mean(axis=(0, 2, 3)).round(6).tolist(),
        "std": some.std(axis=(0, 2, 3)).clip(1e-3).round(6).tolist(),
    }
    if "mask" in labels.heads:
        card |= {"classes": labels.classes, "colours": labels.colours, "shares": (counts / max(int(counts.sum()), 1)).tolist()}
    if "boxes" in labels.heads:
        card |= {"objects": labels.objects, "object_colours": [list(colour) for colour in colours(len(labels.objects))]}
    if labels.targets:
        values = np.load(folder / "train" / "values.npy")
        card |= {
            "targets": labels.targets,
            "usual": np.nanmean(values, 0).astype(float).round(6).tolist(),
            "spread": np.nanstd(values, 0).clip(LEAST_SPREAD).astype(float).round(6).tolist(),
            "ranges": [_range(np.concatenate([column, -column]) if place == 0 else column) for place, column in enumerate(values.T)],
        }
    for name in labels.told:
        numbers = np.load(folder / "train" / f"{name}.npy")
        known = numbers[numbers[:, 1] > 0, 0]
        usual = float(known.mean()) if name == "speed" else 0.0  # what is mirrored turns the other way
        card[name] = [round(usual, 6), round(max(float(np.sqrt(np.square(known - usual).mean())), LEAST_SPREAD), 6)]
    if "turn" in labels.told:
        card["turns"] = TURNS
    if labels.signals:
        card["signals"] = labels.signals
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "scene.json").write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")


def _range(values: np.ndarray) -> list[float]:
    """The least and the largest value, but for what is far out: it is learnt as if it were nearer."""
    usual, spread = float(np.nanmean(values)), max(float(np.nanstd(values)), LEAST_SPREAD)
    low, high = max(float(np.nanmin(values)), usual - FARTHEST * spread), min(float(np.nanmax(values)), usual + FARTHEST * spread)
    return [round(min(low, usual - spread), 6), round(max(high, usual + spread), 6)]


def _facts(labels: Labels, of_split: dict[str, list[Seen]], counts: np.ndarray) -> dict[str, str]:
    everything = [one for seen in of_split.values() for one in seen]
    facts = {
        "learnt": " and ".join(labels.heads),
        "pixels": f"{labels.width} x {labels.height}",
        "recordings": "; ".join(f"{split}: {len({one.frame.recording for one in seen})}" for split, seen in of_split.items()),
    }
    if labels.classes:
        shares = zip(labels.classes, counts / max(counts.sum(), 1), strict=True)
        facts["share of the training pixels"] = ", ".join(f"{name} {share:.1%}" for name, share in shares)
    if labels.objects:
        found = Counter(box.label for one in everything for box in one.boxes or () if box.label)
        facts["boxes"] = ", ".join(f"{name} {count:,}" for name, count in found.most_common())
    if labels.targets:
        steering = np.array([one.frame.steering for one in everything if one.frame.steering is not None])
        facts["told to the network"] = " and ".join(("the picture", *labels.told))
        facts["steering"] = f"from {steering.min():.2f} to {steering.max():.2f}, exactly 0 in {(steering == 0).mean():.0%}"
    if labels.signals:
        shown = Counter(one.frame.signal for one in everything if one.frame.signal)
        facts["signs and lights"] = ", ".join(f"{kind} {count:,}" for kind, count in shown.most_common())
    return facts
