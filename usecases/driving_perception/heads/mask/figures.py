"""Figures of segmentation in the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.contract.types import Predict
from usecases import charts
from usecases.driving_perception.heads.mask.scores import MaskEvaluator, iou, overlaps
from usecases.driving_perception.masks import blended
from usecases.driving_perception.pictures import SHOWN, as_picture, one_above_other
from usecases.driving_perception.scenes import IGNORED, StoredScenes, inputs_of


def class_by_class(evaluator: MaskEvaluator, card: dict[str, Any]) -> list[dict[str, Any]]:
    """Tables of the intersection over union of each class, and of the most confused pairs."""
    total, classes = evaluator.confusion, evaluator.classes
    of_class, support = iou(overlaps(total)), total.sum(1) / max(total.sum(), 1)
    rows = [
        [classes[i], "–" if np.isnan(of_class[i]) else f"{of_class[i]:.3f}", f"{support[i]:.2%}", f"{card['shares'][i]:.2%}"]
        for i in np.argsort(np.nan_to_num(of_class, nan=2), kind="stable")
    ]
    blocks: list[dict[str, Any]] = [
        {
            "kind": "table",
            "title": "Class by class",
            "caption": "Intersection over union on the test split, the lowest first.",
            "columns": ["Class", "IoU", "Test pixels", "Training pixels"],
            "rows": rows,
        }
    ]
    return [*blocks, charts.confused_pairs(total, classes, "Pixels")]


def worst_frames(predict: Predict, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
    """A gallery of the frames with the lowest pixel accuracy among some of a split.

    Args:
        predict: a predictor.
        scenes: the split.
        card: `assets/scene.json`.

    Returns:
        A block of kind gallery.
    """
    known = scenes.rows_with("mask")
    shown = []
    for row in known[np.unique(np.linspace(0, len(known) - 1, 4 * SHOWN).astype(np.int64))]:
        batch = scenes.batch(np.array([row]))
        true, found = batch["mask"][0], predict(inputs_of(batch))["mask"][0]
        counted = true != IGNORED
        right = float((found == true)[counted].mean()) if counted.any() else 1.0
        shown.append((right, int(row), batch["image"][0], true, found))
    names = scenes.names()
    items = [
        {
            "image": one_above_other([blended(as_picture(image), mask, card["colours"]) for mask in (found, true)]),
            "alt": f"{names[row]}: predicted and true classes",
            "lines": [names[row], f"{right:.1%} pixel accuracy"],
        }
        for right, row, image, true, found in sorted(shown, key=lambda one: one[0])[:SHOWN]
    ]
    return {
        "kind": "gallery",
        "large": True,
        "title": "Worst frames of a sample",
        "caption": "Predicted classes above, true classes below.",
        "items": items,
    }
