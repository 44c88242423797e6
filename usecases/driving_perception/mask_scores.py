"""How well every pixel is named: by class, and by scenario where these are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.usecase import Arrays
from usecases.driving_perception.scenes import IGNORED, StoredScenes

BINS = 15


class MaskJudge:
    """Counts over a split: pixels by true and found class, [S, C, C] of each slice; and how sure they were, [bins] each."""

    main = "miou"

    def __init__(self, scenes: StoredScenes, card: dict[str, Any]) -> None:
        self.classes: list[str] = card["classes"]
        self.of_frame = scenes.slices()
        self.slices = sorted({self.of_frame[row] for row in scenes.rows_with("mask")})
        self.confusion = np.zeros((len(self.slices), len(self.classes), len(self.classes)), dtype=np.int64)
        self.sure, self.hits, self.pixels = (np.zeros(BINS) for _ in range(3))

    def add(self, row: int, truth: Arrays, said: Arrays) -> None:
        import torch
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        known = truth["mask"] != IGNORED
        true, found, likely = truth["mask"][known].astype(np.int64), said["mask"][known], said["sure"][known]
        counted = multiclass_confusion_matrix(torch.from_numpy(found), torch.from_numpy(true), len(self.classes))
        self.confusion[self.slices.index(self.of_frame[row])] += counted.numpy()
        place = np.minimum((likely * BINS).astype(int), BINS - 1)
        self.pixels += np.bincount(place, minlength=BINS)
        self.sure += np.bincount(place, likely, minlength=BINS)
        self.hits += np.bincount(place, found == true, minlength=BINS)

    def scores(self) -> dict[str, float]:
        """miou, pixel_accuracy, ece and iou/<class>; miou/<scenario> where there are several.

        The intersection over union of a class is over all pixels of the split at once (Everingham 2010); classes that neither are
        there nor were found do not count in the mean.
        """
        total = self.confusion.sum(0)
        measured = {
            "miou": mean_iou(total),
            "pixel_accuracy": float(np.trace(total) / max(total.sum(), 1)),
            "ece": float(np.abs(self.hits - self.sure).sum() / max(self.pixels.sum(), 1)),
        }
        by_slice = {f"miou/{name}": mean_iou(counts) for name, counts in zip(self.slices, self.confusion, strict=True) if name}
        by_class = {f"iou/{name}": float(value) for name, value in zip(self.classes, iou(total), strict=True) if not np.isnan(value)}
        return {**measured, **by_slice, **by_class}


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union per class, [C], of true by found classes, [C, C]; nan where a class neither is there nor was found."""
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    found = iou(confusion)
    return float(np.nanmean(found)) if not np.isnan(found).all() else 0.0
