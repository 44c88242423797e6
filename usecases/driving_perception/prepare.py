"""From a source of scenes to arrays on disk that training reads as it goes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import DataError
from tasks.findings import Findings
from tasks.usecase import Say
from usecases.driving_perception.layouts import Scene, Source, find_source
from usecases.driving_perception.masks import colours, read_mask, resized
from usecases.driving_perception.scenes import IGNORED, to_pixels
from usecases.images import UnusableImage, as_png, decode
from usecases.splits import SPLITS, complete, leaks

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

WIDEST, STEP = 512, 8  # pixels: larger images are brought to that, in steps
SAME_SHAPE = 0.02  # relative difference of the sides' ratios below which a mask only needs resizing
MOST_UNKNOWN = 0.5  # share of a mask's pixels that may be of no class
FEWEST_RECORDINGS = 8  # to split by recordings; of fewer, blocks of frames are dealt out
BLOCKS = 20
SAY_EVERY = 25


@dataclass(frozen=True)
class Seen:
    size: tuple[int, int]
    content: str


def prepare(settings: DrivingPerception, folder: Path, say: Say) -> dict[str, Any]:
    """Look at every scene once, decide, then write arrays, assets and an example; returns the card of the data set.

    Raises:
        DataError: too much is unusable, or too little is left.
    """
    source = find_source(settings.data)
    findings, total = source.findings, len(source.scenes) + source.findings.unusable
    if not total:
        raise DataError(f"No scenes were found in --usecase.data {settings.data}.")
    scenes, seen = _look(source, say)
    findings.refuse_past(settings.tolerance, total, "scenes")
    if len(source.classes) < 2:
        raise DataError(f"The masks know only the classes {source.classes}: to tell what is where at least two are needed.")
    of_split = _split(scenes, seen, settings, findings)
    width, height = _common_size(settings, [one.size for one in seen])
    counts = {split: _write(folder / split, of_split[split], source, width, height, say) for split in SPLITS}
    for name, learnt in zip(source.classes, counts["train"], strict=True):
        if not learnt:
            findings.note("class without training pixels", name, "kept; the network cannot learn it")
    _write_assets(folder, source, width, height, counts["train"])
    (folder / "example.png").write_bytes(as_png(decode(of_split["test"][0].image())))
    recordings = {split: sorted({scene.recording for scene in of_split[split]}) for split in SPLITS}
    return {
        "layout": source.layout,
        "task": "segmentation",
        "sizes": {split: len(of_split[split]) for split in SPLITS},
        "labels": source.classes,
        "findings": findings.listed(),
        "facts": {
            "pixels": f"{width} x {height}; scores are at that size",
            "recordings": "; ".join(f"{split}: {len(names)}" for split, names in recordings.items()),
            "share of the training pixels": ", ".join(
                f"{name} {share:.1%}" for name, share in zip(source.classes, counts["train"] / max(counts["train"].sum(), 1), strict=True)
            ),
        },
    }


# -- looking ----------------------------------------------------------------------------------------------------------
def _look(source: Source, say: Say) -> tuple[list[Scene], list[Seen]]:
    kept, seen, unknown = [], [], Counter[str]()
    for number, scene in enumerate(source.scenes):
        if number % SAY_EVERY == 0:
            say(f"looking at {number:,} of {len(source.scenes):,} scenes")
        try:
            found = _try(scene, source, unknown)
        except UnusableImage as reason:
            source.findings.set_aside("unusable scene", f"{scene.name}: {reason}")
            continue
        kept.append(scene)
        seen.append(found)
    for called, pixels in unknown.most_common():
        source.findings.note("pixels that the list of classes does not know", f"{called}: {pixels:,} pixels", "count for nothing", pixels)
    return kept, seen


def _try(scene: Scene, source: Source, unknown: Counter[str]) -> Seen:
    """Raises `UnusableImage`: image or mask cannot be read, do not belong together, or nothing in the mask is of a class."""
    try:
        data, mask_data = scene.image(), scene.mask()
    except OSError as error:
        raise UnusableImage(f"it cannot be read: {error.strerror}") from None
    image, (mask, strange) = decode(data), read_mask(mask_data, source)
    height, width = mask.shape
    if (width, height) != image.size:
        if abs(width / height * image.height / image.width - 1) > SAME_SHAPE:
            raise UnusableImage(f"the image is {image.width} x {image.height}, its mask {width} x {height}")
        source.findings.note("mask of another size than its image", scene.name, "resized")
    if sum(strange.values()) > MOST_UNKNOWN * mask.size:
        raise UnusableImage(f"most of the mask is of no class that is listed: {', '.join(list(strange)[:3])}")
    if (mask == IGNORED).all():
        raise UnusableImage("no pixel of the mask belongs to a class")
    unknown.update(strange)
    content = hashlib.blake2b(repr(image.size).encode() + image.convert("RGB").tobytes(), digest_size=16).hexdigest()
    return Seen(image.size, content)


# -- splits -----------------------------------------------------------------------------------------------------------
def _split(scenes: list[Scene], seen: list[Seen], settings: DrivingPerception, findings: Findings) -> dict[str, list[Scene]]:
    """The scenes of each split: as given, else whole recordings, or blocks of frames where there are few of these."""
    given = [scene.split for scene in scenes]
    as_test = settings.dev_is_test and "validation" in given
    if settings.dev_is_test and not as_test:
        raise DataError("--usecase.dev_is_test: the data have no val folder of their own.")
    if as_test:
        findings.note("validation frames that are the test, too", "", "as asked by --usecase.dev_is_test", given.count("validation"))
        copies = [replace(scene, split="test") for scene in scenes if scene.split == "validation"]
        kept = [scene for scene in scenes if scene.split != "test"]
        return {
            "train": [s for s in kept if s.split in (None, "train")],
            "validation": [s for s in kept if s.split == "validation"],
            "test": copies,
        }
    groups = _groups(scenes, findings)
    shares = settings.validation_share, settings.test_share
    splits = complete(given, [scene.scenario for scene in scenes], groups, *shares, settings.split_seed)
    doubled = dict(leaks(splits, [one.content for one in seen]))
    for copy, original in doubled.items():
        action = f"removed from {splits[copy]}"
        findings.note("identical image in two splits", f"{scenes[copy].name} = {scenes[original].name}", action)
    found = {name: [s for i, s in enumerate(scenes) if splits[i] == name and i not in doubled] for name in SPLITS}
    for name, chosen in found.items():
        if not chosen:
            raise DataError(
                f"No scene is left for the {name} split: there are {len(scenes)} of {len(set(groups))} recordings or blocks of frames."
            )
    return found


def _groups(scenes: Sequence[Scene], findings: Findings) -> list[str]:
    """Neighbouring frames are nearly the same picture, so what is split is recordings, or stretches of them."""
    recordings = [scene.recording for scene in scenes]
    per_scenario = Counter(scenario for _, scenario in {(s.recording, s.scenario) for s in scenes})
    if min(per_scenario.values()) >= FEWEST_RECORDINGS:
        return recordings
    block = max(1, len(scenes) // BLOCKS)
    findings.note(
        "few recordings", f"{len(set(recordings))}", f"split by blocks of {block} successive frames instead", len(set(recordings))
    )
    seen: Counter[str] = Counter()
    groups = []
    for recording in recordings:
        groups.append(f"{recording}/{seen[recording] // block}")
        seen[recording] += 1
    return groups


def _common_size(settings: DrivingPerception, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The most frequent size, not wider than 512, unless the settings say otherwise."""
    width, height = Counter(sizes).most_common(1)[0][0]
    if width > WIDEST:
        width, height = WIDEST, max(STEP, round(height * WIDEST / width / STEP) * STEP)
    return settings.width or width, settings.height or height


# -- writing ----------------------------------------------------------------------------------------------------------
def _write(folder: Path, scenes: Sequence[Scene], source: Source, width: int, height: int, say: Say) -> np.ndarray:
    """Images, masks and names; returns how many pixels each class has, [C]."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (len(scenes), 3, height, width))
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, (len(scenes), height, width))
    counts = np.zeros(len(source.classes), dtype=np.int64)
    for row, (image, mask) in enumerate(_arrays(scenes, source, width, height, f"writing {folder.name}", say)):
        images[row], masks[row] = image, mask
        counts += np.bincount(mask[mask != IGNORED], minlength=len(counts))
    images.flush()
    masks.flush()
    frames = [{"name": scene.name, "slice": scene.scenario} for scene in scenes]
    (folder / "frames.json").write_text(json.dumps(frames, ensure_ascii=False), encoding="utf-8")
    return counts


def _arrays(
    scenes: Sequence[Scene], source: Source, width: int, height: int, what: str, say: Say
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number, scene in enumerate(scenes):
        if number % SAY_EVERY == 0:
            say(f"{what}: {number:,} of {len(scenes):,} scenes")
        yield to_pixels(decode(scene.image()), width, height), resized(read_mask(scene.mask(), source)[0], width, height)


def _write_assets(folder: Path, source: Source, width: int, height: int, counts: np.ndarray) -> None:
    images = np.load(folder / "train" / "images.npy", mmap_mode="r")
    some = images[:: max(1, len(images) // 64)].astype(np.float64) / 255
    own = {number: list(colour) for colour, number in source.colours.items()}
    card = {
        "width": width,
        "height": height,
        "classes": source.classes,
        "colours": [own.get(number, list(colour)) for number, colour in enumerate(colours(len(source.classes)))],
        "mean": some.mean(axis=(0, 2, 3)).round(6).tolist(),
        "std": some.std(axis=(0, 2, 3)).clip(1e-3).round(6).tolist(),
        "shares": (counts / max(int(counts.sum()), 1)).tolist(),
    }
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "scene.json").write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")
