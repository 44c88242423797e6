"""What the report shows of a model of road scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.usecase import Predict
from usecases import charts
from usecases.driving_perception.masks import painted
from usecases.driving_perception.scenes import IGNORED, StoredScenes, read_card
from usecases.driving_perception.scores import iou, judge, mean_iou

SHOWN = 6
WIDE = 480  # pixels of the longer side of a picture in the report
BLEND = 0.55  # of the mask over the picture


def figures(predict: Predict, folder: Path) -> dict[str, Any]:
    """Class by class, by scenario, what is taken for what, and pictures with their masks, the worst first."""
    card, scenes = read_card(folder / "assets"), StoredScenes(folder / "test")
    judged = judge(predict, folder, "test")
    total, classes = judged.confusion.sum(0), card["classes"]
    order = np.argsort(np.nan_to_num(iou(total), nan=2), kind="stable")
    support = total.sum(1) / max(total.sum(), 1)
    rows = [
        [classes[i], "–" if np.isnan(iou(total)[i]) else f"{iou(total)[i]:.3f}", f"{support[i]:.2%}", f"{card['shares'][i]:.2%}"]
        for i in order
    ]
    blocks: list[dict[str, Any]] = [
        {
            "kind": "table",
            "title": "Class by class",
            "caption": "Intersection over union on the test split, the weakest first.",
            "columns": ["Class", "IoU", "Test pixels", "Training pixels"],
            "rows": rows,
        }
    ]
    if len(judged.slices) > 1:
        items = [
            {"label": name or "other", "value": round(mean_iou(c), 4)} for name, c in zip(judged.slices, judged.confusion, strict=True)
        ]
        blocks.append({"kind": "bars", "title": "By scenario", "caption": "Mean intersection over union.", "items": items})
    blocks += [charts.confused_pairs(total, classes, "Pixels"), _pictures(predict, scenes, card)]
    return {"title": "What is where on the test split", "blocks": blocks}


def _pictures(predict: Predict, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
    rows = np.unique(np.linspace(0, len(scenes) - 1, 4 * SHOWN).astype(np.int64))
    shown = []
    for row in rows:
        batch = scenes.batch(np.array([row]))
        found = predict({"image": batch["image"]})["mask"][0]
        known = batch["mask"][0] != IGNORED
        right = float((found == batch["mask"][0])[known].mean()) if known.any() else 1.0
        shown.append((right, int(row), batch["image"][0], batch["mask"][0], found))
    worst = sorted(shown, key=lambda one: one[0])[:SHOWN]
    names = scenes.names()
    items = [
        {
            "image": _side_by_side(image, mask, found, card["colours"]),
            "alt": f"{names[row]}: seen and true classes",
            "lines": [names[row], f"{right:.1%} right"],
        }
        for right, row, image, mask, found in worst
    ]
    return {"kind": "gallery", "title": "The worst of some frames", "caption": "What the network sees, above what is true.", "items": items}


def _side_by_side(image: np.ndarray, mask: np.ndarray, found: np.ndarray, colours: list[list[int]]) -> str:
    """The picture under what was found, above the picture under what is true, as a data URI."""
    plain = image.transpose(1, 2, 0).astype(np.float64)
    both = [(1 - BLEND) * plain + BLEND * painted(one.astype(np.uint8), colours) for one in (found, mask)]
    return charts.picture(np.concatenate(both).round().astype(np.uint8), WIDE)
