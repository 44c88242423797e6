"""How well every pixel is named."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.usecase import Arrays
from usecases.driving_perception.scenes import IGNORED, StoredScenes

BINS = 15


class MaskJudge:
    """Counts over a split: pixels by true and found class, [C, C]; and how sure they were, [bins] each."""

    main = "miou"
    of_scenarios = ("miou", "pixel_accuracy")

    def __init__(self, scenes: StoredScenes, card: dict[str, Any]) -> None:
        self.classes: list[str] = card["classes"]
        self.confusion = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        self.sure, self.hits, self.pixels = (np.zeros(BINS) for _ in range(3))

    def add(self, row: int, truth: Arrays, said: Arrays) -> None:
        import torch
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        known = truth["mask"] != IGNORED
        true, found, likely = truth["mask"][known].astype(np.int64), said["mask"][known], said["sure"][known]
        counted = multiclass_confusion_matrix(torch.from_numpy(found), torch.from_numpy(true), len(self.classes))
        self.confusion += counted.numpy()
        place = np.minimum((likely * BINS).astype(int), BINS - 1)
        self.pixels += np.bincount(place, minlength=BINS)
        self.sure += np.bincount(place, likely, minlength=BINS)
        self.hits += np.bincount(place, found == true, minlength=BINS)

    def scores(self) -> dict[str, float]:
        """miou, pixel_accuracy, ece and iou/<class>.

        The intersection over union of a class is over all pixels of the split at once (Everingham 2010); classes that neither are
        there nor were found do not count in the mean.
        """
        measured = {
            "miou": mean_iou(self.confusion),
            "pixel_accuracy": float(np.trace(self.confusion) / max(self.confusion.sum(), 1)),
            "ece": float(np.abs(self.hits - self.sure).sum() / max(self.pixels.sum(), 1)),
        }
        of_class = zip(self.classes, iou(self.confusion), strict=True)
        return measured | {f"iou/{name}": float(value) for name, value in of_class if not np.isnan(value)}


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union per class, [C], of true by found classes, [C, C]; nan where a class neither is there nor was found."""
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    found = iou(confusion)
    return float(np.nanmean(found)) if not np.isnan(found).all() else 0.0
