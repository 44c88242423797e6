"""Blocks of a report that more than one vertical shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

BINS = 15
SHOWN_CLASSES = 20


def confusion(counts: np.ndarray, labels: Sequence[str], what: str) -> dict[str, Any]:
    """The confusion matrix [C, C], true classes down, of `what` is counted; of many classes the most confused."""
    errors = counts - np.diag(np.diag(counts))
    confused = np.argsort(-(errors.sum(axis=0) + errors.sum(axis=1)), kind="stable")[:SHOWN_CLASSES]
    shown = np.sort(confused)
    caption = f"The {len(shown)} most confused of {len(labels)} classes." if len(shown) < len(labels) else f"Counts of {what}."
    return {
        "kind": "matrix",
        "title": "Confusion matrix",
        "caption": caption,
        "labels": [labels[i] for i in shown],
        "values": counts[np.ix_(shown, shown)].tolist(),
        "row_label": "true class",
        "column_label": "predicted class",
        "diagonal": True,
    }


def confused_pairs(counts: np.ndarray, labels: Sequence[str], what: str) -> dict[str, Any]:
    """The ten most frequent mistakes of a confusion matrix [C, C]."""
    errors = counts - np.diag(np.diag(counts))
    ranked = np.argsort(-errors, axis=None, kind="stable")[:10]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(ranked, errors.shape), strict=True) if errors[i, j]]
    rows = [[labels[i], labels[j], int(errors[i, j]), f"{errors[i, j] / counts[i].sum():.1%}"] for i, j in pairs]
    return {
        "kind": "table",
        "title": "Most confused pairs",
        "caption": "The share is of all of the true class." if rows else "None: all were named right.",
        "columns": ["True", "Taken for", what, "Share"],
        "rows": rows,
    }


def classes(counts: np.ndarray, labels: Sequence[str], what: str) -> dict[str, Any]:
    """Precision, recall and F1 of every class of a confusion matrix [C, C]."""
    hits, support, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = hits / np.maximum(said, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + said, 1)
    worst_first = np.argsort(f1, kind="stable")
    columns = ["Class", "Precision", "Recall", "F1", what]
    rows = [[labels[i], *(f"{of[i]:.3f}" for of in (precision, recall, f1)), int(support[i])] for i in worst_first]
    return {"kind": "table", "title": "Class by class", "caption": "The weakest first.", "columns": columns, "rows": rows}


def reliability(sure: np.ndarray, hit: np.ndarray) -> dict[str, Any]:
    """How often answers were right, bool [N], by how sure they were, [N]."""
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    filled = [b for b in range(BINS) if (bins == b).any()]
    model = {
        "name": "this model",
        "x": [round(float(sure[bins == b].mean()), 4) for b in filled],
        "y": [round(float(hit[bins == b].mean()), 4) for b in filled],
    }
    ideal = {"name": "as sure as right", "x": [0, 1], "y": [0, 1], "dashed": True}
    surest = float((sure > 0.9).mean())
    return {
        "kind": "lines",
        "title": "Calibration",
        "caption": f"Above the diagonal it is more often right than it says, below it boasts. {surest:.0%} of the answers are surer than 0.9.",
        "series": [model, ideal],
        "x_label": "probability it gives",
        "y_label": "share that is right",
    }


def picture(pixels: np.ndarray, most: int, kind: str = "JPEG") -> str:
    """uint8 [H, W] or [H, W, 3] as a data URI of at most `most` pixels a side; as PNG nothing is lost."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((most, most))
    file = io.BytesIO()
    image.save(file, kind, optimize=True, quality=80)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
