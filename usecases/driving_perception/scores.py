"""How well every pixel is named: by class, and by scenario where these are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.errors import DataError
from tasks.usecase import Predict, Split
from usecases.driving_perception.scenes import IGNORED, StoredScenes, read_card

BATCH = 8
BINS = 15


@dataclass
class Judged:
    """Counts over a split: pixels by true and found class, [S, C, C] of each slice; and how sure they were, [bins] each."""

    slices: list[str]
    confusion: np.ndarray
    sure: np.ndarray
    hits: np.ndarray
    pixels: np.ndarray


def judge(predict: Predict, folder: Path, split: Split) -> Judged:
    """Raises `DataError` where the split is empty."""
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    scenes, classes = StoredScenes(folder / split), len(read_card(folder / "assets")["classes"])
    if not len(scenes):
        raise DataError(f"There are no scenes in the {split} split that is to be scored.")
    of_frame = scenes.slices()
    slices = sorted(set(of_frame))
    confusion = np.zeros((len(slices), classes, classes), dtype=np.int64)
    sure, hits, pixels = (np.zeros(BINS) for _ in range(3))
    for start in range(0, len(scenes), BATCH):
        rows = np.arange(start, min(start + BATCH, len(scenes)))
        batch = scenes.batch(rows)
        found = predict({"image": batch["image"]})
        for row, mask, said, likely in zip(rows, batch["mask"], found["mask"], found["sure"], strict=True):
            known = mask != IGNORED
            true, said, likely = mask[known].astype(np.int64), said[known], likely[known]
            counted = multiclass_confusion_matrix(torch.from_numpy(said), torch.from_numpy(true), classes)
            confusion[slices.index(of_frame[row])] += counted.numpy()
            place = np.minimum((likely * BINS).astype(int), BINS - 1)
            pixels += np.bincount(place, minlength=BINS)
            sure += np.bincount(place, likely, minlength=BINS)
            hits += np.bincount(place, said == true, minlength=BINS)
    return Judged(slices, confusion, sure, hits, pixels)


def scores(predict: Predict, folder: Path, split: Split) -> dict[str, float]:
    """miou, pixel_accuracy, ece and iou/<class>; miou/<scenario> where there are several.

    The intersection over union of a class is over all pixels of the split at once (Everingham 2010); classes that neither are
    there nor were found do not count in the mean.

    Raises:
        DataError: the split is empty.
    """
    judged, classes = judge(predict, folder, split), read_card(folder / "assets")["classes"]
    total = judged.confusion.sum(0)
    known = judged.pixels.sum()
    measured = {
        "miou": mean_iou(total),
        "pixel_accuracy": float(np.trace(total) / max(total.sum(), 1)),
        "ece": float(np.abs(judged.hits - judged.sure).sum() / max(known, 1)),
    }
    by_slice = {f"miou/{name}": mean_iou(counts) for name, counts in zip(judged.slices, judged.confusion, strict=True) if name}
    by_class = {f"iou/{name}": float(value) for name, value in zip(classes, iou(total), strict=True) if not np.isnan(value)}
    return {**measured, **by_slice, **by_class}


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union per class, [C], of true by found classes, [C, C]; nan where a class neither is there nor was found."""
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    found = iou(confusion)
    return float(np.nanmean(found)) if not np.isnan(found).all() else 0.0
