"""From recordings of drives to arrays on disk; stretches of time are never in two splits."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import DataError
from tasks.findings import Findings
from tasks.usecase import Arrays, Say
from usecases.driving_perception.drives import Moment, find_drives
from usecases.driving_perception.scenes import to_pixels
from usecases.images import UnusableImage, as_png, decode
from usecases.splits import SPLITS, complete

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

WIDEST, STEP = 160, 8  # pixels: steering needs no more
BLOCKS = 20  # of each recording, dealt out whole
SAY_EVERY = 200


class StoredDrives:
    """One split of prepared drives."""

    def __init__(self, folder: Path) -> None:
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.values = np.load(folder / "values.npy")
        self.names: list[str] = json.loads((folder / "frames.json").read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> Arrays:
        """image uint8 [B, 3, H, W] and value float32 [B, K], what the driver did."""
        return {"image": np.ascontiguousarray(self.images[indices]), "value": self.values[indices]}


def prepare_drives(settings: DrivingPerception, folder: Path, say: Say) -> dict[str, Any]:
    """Read, check and split; returns the card of the data set.

    Raises:
        DataError: too much is unusable, or too little is left.
    """
    say("reading the recordings")
    drives = find_drives(settings.data)
    findings, total = drives.findings, len(drives.moments) + drives.findings.unusable
    moments, sizes = _look(drives.moments, findings, say)
    findings.refuse_past(settings.tolerance, total, "moments")
    if not moments:
        raise DataError(f"No moments were found in --usecase.data {settings.data}.")
    width, height = _common_size(settings, sizes)
    splits = _split(moments, settings, findings)
    targets = ["steering", *(["throttle"] if all(moment.throttle is not None for moment in moments) else [])]
    for split in SPLITS:
        rows = [row for row, name in enumerate(splits) if name == split]
        if not rows:
            raise DataError(f"No moment is left for the {split} split: there are {len(moments)} of them. Record more.")
        say(f"writing {split}: {len(rows):,} moments")
        _write(folder / split, [moments[row] for row in rows], width, height, len(targets), settings.side_steering)
    _write_assets(folder, targets, np.load(folder / "train" / "images.npy", mmap_mode="r"), np.load(folder / "train" / "values.npy"))
    shown = next(moment for moment, split in zip(moments, splits, strict=True) if split == "test")
    (folder / "example.png").write_bytes(as_png(decode(shown.image())))
    steering = np.array([moment.steering for moment in moments])
    return {
        "layout": drives.layout,
        "task": "steering",
        "sizes": {split: splits.count(split) for split in SPLITS},
        "findings": findings.listed(),
        "facts": {
            "pixels": f"{width} x {height}",
            "learnt": " and ".join(targets),
            "recordings": len({moment.recording for moment in moments}),
            "steering": f"from {steering.min():.2f} to {steering.max():.2f}, exactly 0 in {(steering == 0).mean():.0%}",
        },
    }


def _look(moments: Sequence[Moment], findings: Findings, say: Say) -> tuple[list[Moment], Counter[tuple[int, int]]]:
    """The moments whose picture can be used, and how many pictures are of which width and height."""
    kept, sizes = [], Counter[tuple[int, int]]()
    for number, moment in enumerate(moments):
        if number % SAY_EVERY == 0:
            say(f"looking at {number:,} of {len(moments):,} moments")
        try:
            sizes[decode(moment.image()).size] += 1
        except (UnusableImage, OSError) as reason:
            findings.set_aside("unreadable image", f"{moment.name}: {reason}")
            continue
        kept.append(moment)
    return kept, sizes


def _common_size(settings: DrivingPerception, sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The most frequent width and height, not wider than 160, unless the settings say otherwise."""
    found = sizes.most_common(1)[0][0]
    shrink = min(1.0, WIDEST / found[0])
    width, height = (max(STEP, round(side * shrink / STEP) * STEP) for side in found)
    return settings.width or width, settings.height or height


def _split(moments: Sequence[Moment], settings: DrivingPerception, findings: Findings) -> list[str]:
    """By stretches of time. Cameras at the side are for training only: nobody drives by them."""
    of_recording: dict[str, list[int]] = defaultdict(list)
    for row, moment in enumerate(moments):
        of_recording[moment.recording].append(row)
    group = [""] * len(moments)
    for recording, rows in of_recording.items():
        for place, row in enumerate(rows):
            group[row] = f"{recording}/{place * BLOCKS // len(rows)}"
    splits = complete(
        [None] * len(moments), [""] * len(moments), group, settings.validation_share, settings.test_share, settings.split_seed
    )
    beside = [row for row, moment in enumerate(moments) if moment.side and splits[row] != "train"]
    for row in beside:
        splits[row] = "left out"
    if beside:
        findings.note("side cameras of moments that are not trained on", "", "left out", len(beside))
    return splits


def _write(folder: Path, moments: Sequence[Moment], width: int, height: int, targets: int, side_steering: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (len(moments), 3, height, width))
    for row, moment in enumerate(moments):
        images[row] = to_pixels(decode(moment.image()), width, height)
    images.flush()
    values = np.array([[m.steering + side_steering * m.side, m.throttle or 0.0][:targets] for m in moments], dtype=np.float32)
    np.save(folder / "values.npy", values)
    (folder / "frames.json").write_text(json.dumps([moment.name for moment in moments], ensure_ascii=False), encoding="utf-8")


def _write_assets(folder: Path, targets: Sequence[str], images: np.ndarray, values: np.ndarray) -> None:
    some = images[:: max(1, len(images) // 256)].astype(np.float64) / 255
    card = {
        "width": images.shape[3],
        "height": images.shape[2],
        "targets": list(targets),
        "mean": some.mean(axis=(0, 2, 3)).round(6).tolist(),
        "std": some.std(axis=(0, 2, 3)).clip(1e-3).round(6).tolist(),
        "usual": values.mean(0).astype(float).round(6).tolist(),
        "spread": values.std(0).clip(1e-3).astype(float).round(6).tolist(),
    }
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "scene.json").write_text(json.dumps(card), encoding="utf-8")
