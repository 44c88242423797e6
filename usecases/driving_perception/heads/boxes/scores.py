"""Scores of object detection by COCO's protocol."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.contract.types import Arrays
from usecases.driving_perception.heads.boxes.maps import Found, found_boxes
from usecases.driving_perception.heads.head import Evaluator
from usecases.driving_perception.scenes import NOTHING, UNCOUNTED

SIZES = ("all", "small", "medium", "large")  # of COCO: areas of up to 32 x 32 and 96 x 96 pixels of the original image, and above


class BoxEvaluator(Evaluator):
    """True and predicted boxes of a split, in pixels of the original images.

    Args:
        objects: names of the classes.
        sizes: width and height of the original images, [N, 2].
        network_size: width and height of the network's images.
    """

    def __init__(self, objects: Sequence[str], sizes: np.ndarray, network_size: tuple[int, int]) -> None:
        super().__init__()
        self.objects, self.sizes, self.network_size = list(objects), sizes, np.array(network_size)
        self.truth: dict[int, np.ndarray] = {}
        self.found: dict[int, Found] = {}

    def add(self, row: int, truth: Arrays, answers: Arrays) -> None:
        self.rows.append(row)
        stretch = np.tile(self.sizes[row] / self.network_size, 2).astype(np.float32)
        there = truth["boxes"][truth["boxes"][:, 0] != NOTHING]
        self.truth[row] = np.concatenate([there[:, :1], there[:, 1:] * stretch], 1)
        found = found_boxes(answers["centres"], answers["extents"])
        self.found[row] = Found(found.labels, found.scores, found.boxes * stretch)

    def scores(self) -> dict[str, float]:
        """map (mean average precision over overlaps of .5 to .95), map50, map_<size> of COCO's sizes and map/<object>.

        Classes without an object in the split do not count in the means (Lin 2014).
        """
        precision = self._precision()
        measured = {"map": _mean(precision[:, :, :, 0]), "map50": _mean(precision[:1, :, :, 0])}
        by_size = {f"map_{size}": precision[:, :, :, place] for place, size in enumerate(SIZES) if place}
        by_object = {f"map/{name}": precision[:, :, place, 0] for place, name in enumerate(self.objects)}
        return measured | {name: _mean(part) for name, part in (by_size | by_object).items() if (part > -1).any()}

    def _precision(self) -> np.ndarray:
        """Precision by COCO's protocol, [IoU thresholds, recalls, classes, sizes]; -1 without an object."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            truth: Any = COCO()
            truth.dataset = self._dataset()
            truth.createIndex()
            rows = self._results()
            if not len(rows):
                return np.where(self._there()[None, None, :, None], np.zeros((10, 101, len(self.objects), len(SIZES))), -1)
            evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"][..., -1]

    def _there(self) -> np.ndarray:
        labels = np.concatenate([boxes[:, 0] for boxes in self.truth.values()])
        return np.isin(np.arange(len(self.objects)), labels)

    def _dataset(self) -> dict[str, Any]:
        annotations: list[dict[str, Any]] = []
        for row, boxes in self.truth.items():
            for label, *sides in boxes.tolist():
                crowd = label == UNCOUNTED  # COCO's name of an ignored region, which is one for each class
                for category in range(len(self.objects)) if crowd else [int(label)]:
                    x0, y0, x1, y1 = sides
                    place = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": int(crowd)}
                    annotations.append({"id": len(annotations) + 1, "image_id": row, "category_id": category, **place})
        return {
            "images": [{"id": row} for row in self.truth],
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for number, name in enumerate(self.objects)],
        }

    def _results(self) -> np.ndarray:
        """Predicted boxes as COCO expects them, [K, 7]: image, x, y, width, height, score, class."""
        parts = [
            np.column_stack([np.full(len(f.labels), row), f.boxes[:, :2], f.boxes[:, 2:] - f.boxes[:, :2], f.scores, f.labels])
            for row, f in self.found.items()
        ]
        return np.concatenate(parts).astype(np.float64)


def _mean(precision: np.ndarray) -> float:
    counted = precision[precision > -1]
    return float(counted.mean()) if counted.size else 0.0
