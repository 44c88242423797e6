"""Scores of segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.contract.types import Arrays
from usecases.driving_perception.heads.head import Evaluator
from usecases.driving_perception.scenes import IGNORED

BINS = 15


class MaskEvaluator(Evaluator):
    """Counts of a split: the confusion matrix of pixels, [C, C], and confidences and hits for the calibration error, [bins] each."""

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.confusion = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        self.confidence, self.hits, self.pixels = (np.zeros(BINS) for _ in range(3))
        self.of_frames: list[np.ndarray] = []

    def add(self, row: int, truth: Arrays, answers: Arrays) -> None:
        import torch
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        known = truth["mask"] != IGNORED
        true, found, likely = truth["mask"][known].astype(np.int64), answers["mask"][known], answers["sure"][known]
        counted = multiclass_confusion_matrix(torch.from_numpy(found), torch.from_numpy(true), len(self.classes)).numpy()
        self.confusion += counted
        self.rows.append(row)
        self.of_frames.append(overlaps(counted))
        place = np.minimum((likely * BINS).astype(int), BINS - 1)
        self.pixels += np.bincount(place, minlength=BINS)
        self.confidence += np.bincount(place, likely, minlength=BINS)
        self.hits += np.bincount(place, found == true, minlength=BINS)

    def counts(self) -> np.ndarray:
        return np.stack(self.of_frames)

    def value(self, means: np.ndarray) -> np.ndarray:
        """miou"""
        return mean_iou(means)

    def scores(self) -> dict[str, float]:
        """miou, pixel_accuracy, ece and iou/<class>.

        The intersection over union of a class is computed over all pixels of the split at once (Everingham 2010). Classes that are
        neither true nor predicted anywhere do not count in the mean.
        """
        measured = {
            "miou": float(mean_iou(overlaps(self.confusion))),
            "pixel_accuracy": float(np.trace(self.confusion) / max(self.confusion.sum(), 1)),
            "ece": float(np.abs(self.hits - self.confidence).sum() / max(self.pixels.sum(), 1)),
        }
        of_class = zip(self.classes, iou(overlaps(self.confusion)), strict=True)
        return measured | {f"iou/{name}": float(value) for name, value in of_class if not np.isnan(value)}


def overlaps(confusion: np.ndarray) -> np.ndarray:
    """Correct, predicted and true pixels of each class, [3 C], from a confusion matrix, [C, C]."""
    return np.concatenate([np.diag(confusion), confusion.sum(0), confusion.sum(1)]).astype(np.float64)


def iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, [..., C], from correct, predicted and true pixels, [..., 3 C]; nan for a class without any."""
    hits, found, true = np.split(counts, 3, axis=-1)
    union = found + true - hits
    return np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Mean IoU over the classes, [...], from correct, predicted and true pixels, [..., 3 C]; 0 without any pixel."""
    found = iou(counts)
    there = ~np.isnan(found)
    return np.where(there, found, 0).sum(-1) / np.maximum(there.sum(-1), 1)
