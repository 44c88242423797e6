"""Blocks of the report that several verticals share."""

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
    """The confusion matrix as a block; of more than 20 classes it shows the most confused.

    Args:
        counts: examples by true class (rows) and predicted class (columns), [C, C].
        labels: names of the classes.
        what: the name of the examples in the caption, such as images.

    Returns:
        A block of kind matrix.
    """
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
    """The ten most frequent mistakes of a confusion matrix as a block.

    Args:
        counts: examples by true class (rows) and predicted class (columns), [C, C].
        labels: names of the classes.
        what: the heading of the column of counts, such as Images.

    Returns:
        A block of kind table.
    """
    errors = counts - np.diag(np.diag(counts))
    ranked = np.argsort(-errors, axis=None, kind="stable")[:10]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(ranked, errors.shape), strict=True) if errors[i, j]]
    rows = [[labels[i], labels[j], int(errors[i, j]), f"{errors[i, j] / counts[i].sum():.1%}"] for i, j in pairs]
    return {
        "kind": "table",
        "title": "Most confused pairs",
        "caption": "Share of all examples of the true class." if rows else "There are no mistakes.",
        "columns": ["True", "Predicted", what, "Share"],
        "rows": rows,
    }


def classes(counts: np.ndarray, labels: Sequence[str], what: str) -> dict[str, Any]:
    """Precision, recall and F1 of every class of a confusion matrix as a block, the lowest F1 first.

    Args:
        counts: examples by true class (rows) and predicted class (columns), [C, C].
        labels: names of the classes.
        what: the heading of the column of examples of each class, such as Images.

    Returns:
        A block of kind table.
    """
    hits, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    worst_first = np.argsort(f1, kind="stable")
    columns = ["Class", "Precision", "Recall", "F1", what]
    rows = [[labels[i], *(f"{of[i]:.3f}" for of in (precision, recall, f1)), int(support[i])] for i in worst_first]
    return {"kind": "table", "title": "Class by class", "caption": "The lowest F1 first.", "columns": columns, "rows": rows}


def reliability(confidence: np.ndarray, hit: np.ndarray) -> dict[str, Any]:
    """A reliability diagram: the accuracy of predictions, `hit` bool [N], by their `confidence`, [N], in bins of equal width."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    filled = [b for b in range(BINS) if (bins == b).any()]
    model = {
        "name": "this model",
        "x": [round(float(confidence[bins == b].mean()), 4) for b in filled],
        "y": [round(float(hit[bins == b].mean()), 4) for b in filled],
    }
    ideal = {"name": "perfectly calibrated", "x": [0, 1], "y": [0, 1], "dashed": True}
    confident = float((confidence > 0.9).mean())
    return {
        "kind": "lines",
        "title": "Calibration",
        "caption": f"Above the diagonal the model is underconfident, below it overconfident. {confident:.0%} of the predictions have a confidence above 0.9.",
        "series": [model, ideal],
        "x_label": "confidence",
        "y_label": "accuracy",
    }


def picture(pixels: np.ndarray, most: int, kind: str = "JPEG") -> str:
    """An image as a data URI for the report.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
        most: pixels of the longer side; larger images are reduced to it.
        kind: JPEG, or PNG, which is lossless.

    Returns:
        The data URI.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((most, most))
    file = io.BytesIO()
    image.save(file, kind, optimize=True, quality=80)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
