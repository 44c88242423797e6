"""Scores of classification and entity recognition, as defined by scikit-learn and seqeval. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.contract.errors import DataError
from usecases.nlp.sources import Span

BINS = 15
THRESHOLD = 0.5  # probability from which a label is predicted if a text may have several


def classification_scores(probabilities: np.ndarray, target: np.ndarray, multi: bool, labels: Sequence[str]) -> dict[str, float]:
    """Scores of a classifier: accuracy, macro_f1, micro_f1, ece and f1/<class>.

    A class that is neither true nor predicted for any text has no F1 and does not count in macro_f1. ece is the expected calibration
    error (Guo 2017) over 15 bins of equal width: of the most probable label, or of each label if a text may have several.

    Args:
        probabilities: probabilities of the labels, [N, C].
        target: true labels, bool [N, C].
        multi: a text may have several labels. Labels with a probability of at least 0.5 are predicted, and accuracy is that of the
            whole set of labels.
        labels: names of the labels, [C].

    Returns:
        The scores by name.

    Raises:
        DataError: there is no text to score.
    """
    if not len(probabilities):
        raise DataError("There is no text in the split that is scored. Give more data, or a larger share for this split.")
    predicted = predicted_labels(probabilities, multi)
    hits, counts, support = (predicted & target).sum(0), predicted.sum(0), target.sum(0)
    used = counts + support > 0
    f1 = 2 * hits[used] / (counts + support)[used]
    scores = {
        "accuracy": float(correct(predicted, target, multi).mean()),
        "macro_f1": float(f1.mean()) if used.any() else 0.0,
        "micro_f1": _f1(hits.sum(), counts.sum(), support.sum()),
        "ece": _calibration_error(probabilities.ravel(), target.ravel()) if multi else _top_calibration_error(probabilities, target),
    }
    names = [label for label, one in zip(labels, used, strict=True) if one]
    return scores | {f"f1/{name}": float(value) for name, value in zip(names, f1, strict=True)}


def predicted_labels(probabilities: np.ndarray, multi: bool) -> np.ndarray:
    """The predicted labels, bool [N, C], from probabilities [N, C]: all above the threshold if `multi`, else the most probable one."""
    if multi:
        return probabilities >= THRESHOLD
    predicted = np.zeros(probabilities.shape, dtype=bool)
    predicted[np.arange(len(predicted)), probabilities.argmax(1)] = True
    return predicted


def correct(predicted: np.ndarray, target: np.ndarray, multi: bool) -> np.ndarray:
    """Which texts are classified correctly.

    Args:
        predicted: predicted labels, bool [N, C].
        target: true labels, bool [N, C].
        multi: a text may have several labels, which must all be correct.

    Returns:
        bool [N].
    """
    return np.all(predicted == target, axis=1) if multi else np.any(predicted & target, axis=1)


def entity_scores(found: Sequence[Sequence[Span]], target: Sequence[Sequence[Span]]) -> dict[str, float]:
    """entity_precision, entity_recall, entity_f1, entity_f1/<type> and entity_f1_overlap over all texts.

    Strict and micro-averaged as in seqeval: start, end and type must be correct. For `entity_f1_overlap` it is enough that an entity
    overlaps one of the same type.

    Args:
        found: predicted entities of each text.
        target: true entities of each text.

    Raises:
        DataError: there is no text to score.
    """
    if not len(target):
        raise DataError("There is no text in the split that is scored. Give more data, or a larger share for this split.")
    predicted = {(text, span) for text, spans in enumerate(found) for span in spans}
    true = {(text, span) for text, spans in enumerate(target) for span in spans}
    hits = predicted & true
    scores = {
        "entity_precision": len(hits) / max(len(predicted), 1),
        "entity_recall": len(hits) / max(len(true), 1),
        "entity_f1": _f1(len(hits), len(predicted), len(true)),
        "entity_f1_overlap": _overlap_f1(predicted, true),
    }
    for kind in sorted({span.label for _, span in predicted | true}):
        counts = (sum(span.label == kind for _, span in spans) for spans in (hits, predicted, true))
        scores[f"entity_f1/{kind}"] = _f1(*counts)
    return scores


def _f1(hits: int, predicted: int, true: int) -> float:
    return float(2 * hits / max(predicted + true, 1))


def _overlap_f1(predicted: set[tuple[int, Span]], true: set[tuple[int, Span]]) -> float:
    precision, recall = _overlapping_share(predicted, true), _overlapping_share(true, predicted)
    return 2 * precision * recall / max(precision + recall, 1e-12)


def _overlapping_share(these: set[tuple[int, Span]], those: set[tuple[int, Span]]) -> float:
    """The share of `these` spans that overlap one of `those` in the same text and of the same type."""
    by_kind: dict[tuple[int, str], list[Span]] = {}
    for text, span in those:
        by_kind.setdefault((text, span.label), []).append(span)
    met = sum(any(a.start < b.end and b.start < a.end for b in by_kind.get((text, a.label), ())) for text, a in these)
    return met / max(len(these), 1)


def _top_calibration_error(probabilities: np.ndarray, target: np.ndarray) -> float:
    top = probabilities.argmax(1)
    rows = np.arange(len(top))
    return _calibration_error(probabilities[rows, top], target[rows, top])


def _calibration_error(confidence: np.ndarray, hit: np.ndarray) -> float:
    """Expected calibration error: mean difference of confidence [N] and accuracy (hit, bool [N]) over bins of confidence."""
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=confidence.astype(np.float64) - hit, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))
