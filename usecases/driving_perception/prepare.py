"""Read, check and split frames, and write them as arrays that training reads from disk batch by batch."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from tasks.contract.types import Say
from usecases.driving_perception.frames import Frame, Source
from usecases.driving_perception.heads.head import FrameInfo, Plan, Reading
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.scenes import to_pixels
from usecases.driving_perception.sources import find_sources
from usecases.images import UnusableImage, as_png
from usecases.reading.splits import SPLITS, complete, leaks

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

STEP = 8  # pixels: sides of reduced images are multiples of it
MIN_CROP, MAX_CROP = 64, 96  # pixels to a side of the network's images, if all images are crops
MIN_RECORDINGS = 8  # least number to split by recordings; fewer are split by blocks of frames
BLOCKS = 20
SAY_EVERY = 25


def prepare(settings: DrivingPerception, folder: Path, say: Say) -> dict[str, Any]:
    """Read and check every frame, plan the heads and the size of images, and write arrays, assets and an example.

    Args:
        settings: those that are declared with `prepare=True` are read.
        folder: an empty folder that is written.
        say: called with the progress.

    Returns:
        The card of the data set.

    Raises:
        DataError: too many frames are unusable, or too few are left.
    """
    say("finding frames")
    findings = Findings()
    sources = find_sources(settings.data, findings)
    total = sum(len(source.frames) for source in sources) + findings.unusable
    seen = [_look(source, findings, say) for source in sources]
    findings.refuse_past(settings.tolerance, total, "frames")
    if not any(seen):
        raise DataError(f"No frames were found in --usecase.data {settings.data}.")
    plan = _plan(settings, sources, seen)
    seen = [[one for one in frames if one.labels.keys() & plan.parts.keys()] for frames in seen]
    parts = [_split(frames, settings, findings) for frames in seen if frames]
    of_split = {split: [one for part in parts for one in part[split]] for split in SPLITS}
    _check_scenario(settings.scenario, of_split)
    for split in SPLITS:
        _write(folder / split, of_split[split], plan, settings, say)
    cards = {name: HEADS[name].card(part, folder, findings) for name, part in plan.parts.items()}
    _write_assets(folder, plan, cards)
    (folder / "example.png").write_bytes(as_png(of_split["test"][0].frame.picture()))
    return {
        "layout": "; ".join(source.layout for source in sources),
        "heads": list(cards),
        "conditioning": [one for name, card in cards.items() for one in HEADS[name].inputs if one in card],
        "ratios": plan.ratios,
        "sizes": {split: len(of_split[split]) for split in SPLITS},
        "labels": next((names for name, card in cards.items() if (names := HEADS[name].names(card))), []),
        "findings": findings.listed(),
        "facts": _facts(plan, cards, of_split),
    }


# -- looking ----------------------------------------------------------------------------------------------------------
def _look(source: Source, findings: Findings, say: Say) -> list[FrameInfo]:
    kept, readings = [], {name: Reading(source, findings) for name in HEADS}
    for number, frame in enumerate(source.frames):
        if number % SAY_EVERY == 0:
            say(f"checking {number:,} of {len(source.frames):,} frames")
        try:
            kept.append(_try(frame, source, readings))
        except UnusableImage as reason:
            findings.set_aside("unusable frame", f"{frame.name}: {reason}")
    for name, reading in readings.items():
        HEADS[name].finish(reading)
    return kept


def _try(frame: Frame, source: Source, readings: dict[str, Reading]) -> FrameInfo:
    """Decode a frame and its labels. Raises `UnusableImage`: the image or a label cannot be read, or they do not match."""
    try:
        picture = frame.picture()
        labels = {name: HEADS[name].label(frame, picture, reading) for name, reading in readings.items()}
    except OSError as error:
        raise UnusableImage(f"it cannot be read: {error.strerror}") from None
    content = hashlib.blake2b(repr(picture.size).encode() + picture.convert("RGB").tobytes(), digest_size=16).hexdigest()
    known = {name: label for name, label in labels.items() if label is not None}
    return FrameInfo(frame, source, picture.size, known, content)


def _plan(settings: DrivingPerception, sources: Sequence[Source], seen: Sequence[Sequence[FrameInfo]]) -> Plan:
    """Plan the heads and the size of images. Raises `DataError`: a requested head has no labels, or cannot learn from them."""
    everything = [one for frames in seen for one in frames]
    labelled = {name for one in everything for name in one.labels}
    missing = [name for name in settings.heads if name not in labelled]
    if missing:
        raise DataError(f"--usecase.heads asks for {', '.join(missing)}, but the data have labels for {', '.join(sorted(labelled))} only.")
    heads = [head for name, head in HEADS.items() if name in (settings.heads or labelled)]
    parts = {head.name: head.plan(settings, [one for one in everything if head.name in one.labels], sources) for head in heads}
    crops = all(head.crops for head in heads)
    width, height = _size_of_crops(everything) if crops else _common_size(seen, max(head.max_width for head in heads))
    ratios = [] if crops else sorted({round(across / down, 4) for across, down in _usual_sizes(seen)})
    return Plan(parts, settings.width or width, settings.height or height, ratios)


def _size_of_crops(frames: Sequence[FrameInfo]) -> tuple[int, int]:
    """The size of the network's images for crops: a square of about their median area."""
    side = float(np.median([one.size[0] * one.size[1] for one in frames])) ** 0.5
    side = min(MAX_CROP, max(MIN_CROP, round(side / STEP) * STEP))
    return side, side


def _common_size(seen: Sequence[Sequence[FrameInfo]], max_width: int) -> tuple[int, int]:
    """The largest of the sources' most frequent sizes, reduced to at most `max_width`."""
    width, height = max(_usual_sizes(seen), key=lambda size: size[0] * size[1])
    if width > max_width:
        width, height = max_width, max(STEP, round(height * max_width / width / STEP) * STEP)
    return width, height


def _usual_sizes(seen: Sequence[Sequence[FrameInfo]]) -> list[tuple[int, int]]:
    """The most frequent size of each source."""
    return [Counter(one.size for one in frames).most_common(1)[0][0] for frames in seen if frames]


# -- splitting --------------------------------------------------------------------------------------------------------
def _split(seen: list[FrameInfo], settings: DrivingPerception, findings: Findings) -> dict[str, list[FrameInfo]]:
    """The frames of each split: as given, else split by recordings, or by blocks of frames. Side cameras are used for training only."""
    given = [one.frame.split for one in seen]
    as_test = settings.dev_is_test and "validation" in given
    if settings.dev_is_test and not as_test:
        raise DataError("--usecase.dev_is_test: the data have no validation split. Set it to false.")
    if as_test:
        findings.note("validation frames that are also the test", "", "by --usecase.dev_is_test", given.count("validation"))
        held = [one for one in seen if one.frame.split == "validation"]
        return {"train": [one for one in seen if one.frame.split in (None, "train")], "validation": held, "test": held}
    groups = _groups(seen, findings)
    seen = [replace(one, stretch=stretch) for one, stretch in zip(seen, groups, strict=True)]
    shares = settings.validation_share, settings.test_share
    alike = [_stratum(one) for one in seen]
    splits = complete(given, alike, groups, *shares, settings.split_seed)
    left_out = dict(leaks(splits, [one.content for one in seen]))
    for copy, original in left_out.items():
        action = f"removed from {splits[copy]}"
        findings.note("identical image in two splits", f"{seen[copy].frame.name} = {seen[original].frame.name}", action)
    held_out_sides = {row for row, one in enumerate(seen) if one.frame.side and splits[row] != "train"}
    if held_out_sides:
        findings.note("side cameras of moments outside the training split", "", "left out", len(held_out_sides))
    found = {
        name: [one for row, one in enumerate(seen) if splits[row] == name and row not in left_out and row not in held_out_sides]
        for name in SPLITS
    }
    for name, chosen in found.items():
        if not chosen:
            raise DataError(
                f"No frame is left for the {name} split: there are {len(seen)}, of {len(set(groups))} recordings or blocks. Record more."
            )
    return found


def _check_scenario(scenario: str, of_split: dict[str, list[FrameInfo]]) -> None:
    """Check the scenario. Raises `DataError`: a split has no frames of it, or no others."""
    if not scenario:
        return
    for split, frames in of_split.items():
        counts = Counter(one.frame.scenario for one in frames)
        if not 0 < counts[scenario] < len(frames):
            listed = ", ".join(f"{name or 'unnamed'} {count:,}" for name, count in counts.most_common())
            raise DataError(
                f"--usecase.scenario {scenario}: of the {len(frames):,} frames of the {split} split {counts[scenario]:,} belong to it ({listed}). "
                "Fine-tuning needs frames of it and of others. A scenario is a word such as night in the names of folders or files, or a data folder."
            )


def _groups(seen: Sequence[FrameInfo], findings: Findings) -> list[str]:
    """The groups that are split, recordings or blocks of successive frames, since neighbouring frames are nearly identical."""
    recordings = [one.frame.recording or one.content for one in seen]
    per_scenario = Counter(
        scenario for _, scenario in {(recording, one.frame.scenario) for recording, one in zip(recordings, seen, strict=True)}
    )
    if min(per_scenario.values()) >= MIN_RECORDINGS:
        return recordings
    block = max(1, sum(not one.frame.side for one in seen) // BLOCKS)
    findings.note(
        "few recordings", f"{len(set(recordings))}", f"split by blocks of {block} successive frames instead", len(set(recordings))
    )
    places: Counter[str] = Counter()
    groups = []
    for recording, one in zip(recordings, seen, strict=True):
        if not one.frame.side:  # side cameras come after the centre camera of their moment, and stay with it
            places[recording] += 1
        groups.append(f"{recording}/{max(places[recording] - 1, 0) // block}")
    return groups


def _stratum(one: FrameInfo) -> str:
    """The stratum of a frame for stratified splits: that of a head, else the scenario."""
    return next(filter(None, (HEADS[name].stratum(label) for name, label in one.labels.items())), one.frame.scenario)


# -- writing ----------------------------------------------------------------------------------------------------------
def _write(folder: Path, seen: Sequence[FrameInfo], plan: Plan, settings: DrivingPerception, say: Say) -> None:
    """Write the images, the arrays of the heads, and the names of the frames."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(folder / "image.npy", "w+", np.uint8, (len(seen), 3, plan.height, plan.width))
    for row, one in enumerate(seen):
        if row % SAY_EVERY == 0:
            say(f"writing {folder.name}: {row:,} of {len(seen):,} frames")
        images[row] = to_pixels(one.frame.picture(), plan.width, plan.height)
    images.flush()
    for name in plan.parts:
        HEADS[name].write(folder, seen, plan, settings, say)
    frames = [
        {
            "name": one.frame.name,
            "slice": one.frame.scenario,
            "size": one.size,
            "heads": [name for name in plan.parts if name in one.labels],
        }
        for one in seen
    ]
    (folder / "frames.json").write_text(json.dumps(frames, ensure_ascii=False), encoding="utf-8")


def _write_assets(folder: Path, plan: Plan, cards: dict[str, dict[str, Any]]) -> None:
    images = np.load(folder / "train" / "image.npy", mmap_mode="r")
    some = images[:: max(1, len(images) // 256)].astype(np.float64) / 255
    card: dict[str, Any] = {
        "width": plan.width,
        "height": plan.height,
        "heads": list(cards),
        "ratios": plan.ratios,
        "mean": some.mean(axis=(0, 2, 3)).round(6).tolist(),
        "std": some.std(axis=(0, 2, 3)).clip(1e-3).round(6).tolist(),
    }
    for part in cards.values():
        card |= part
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "scene.json").write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")


def _facts(plan: Plan, cards: dict[str, dict[str, Any]], of_split: dict[str, list[FrameInfo]]) -> dict[str, str]:
    everything = [one for seen in of_split.values() for one in seen]
    facts = {
        "heads": " and ".join(cards),
        "pixels": f"{plan.width} x {plan.height}",
        "recordings": "; ".join(f"{split}: {len({one.frame.recording for one in seen})}" for split, seen in of_split.items()),
    }
    for name, card in cards.items():
        facts |= HEADS[name].facts(card, [one for one in everything if name in one.labels])
    return facts
