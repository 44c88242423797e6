"""How good labels are, and how good entities: as scikit-learn and seqeval count them. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.contract.errors import DataError
from usecases.nlp.sources import Span

BINS = 15
LIKELY = 0.5  # from here on a label of several is given


def classification_scores(probabilities: np.ndarray, right: np.ndarray, multi: bool, labels: Sequence[str]) -> dict[str, float]:
    """accuracy, macro_f1, micro_f1, ece and f1/<class>.

    A class that is never right and never given has no F1 and no part in macro_f1. ece is the expected calibration error
    (Guo 2017) over 15 bins of equal width: of the likeliest label, or where there may be several, of each yes or no.

    Args:
        probabilities: of the labels, [N, C].
        right: which labels are right, bool [N, C].
        multi: a text may have several labels: each from a probability of 0.5 on; accuracy asks for all of them.
        labels: their names, [C].

    Raises:
        DataError: there is nothing to score.
    """
    if not len(probabilities):
        raise DataError("There is no text in the split that is to be scored. Give more data or a larger share for it.")
    given = decided(probabilities, multi)
    hits, said, support = (given & right).sum(0), given.sum(0), right.sum(0)
    seen = said + support > 0
    f1 = 2 * hits[seen] / (said + support)[seen]
    scores = {
        "accuracy": float(hit(given, right, multi).mean()),
        "macro_f1": float(f1.mean()) if seen.any() else 0.0,
        "micro_f1": _f1(hits.sum(), said.sum(), support.sum()),
        "ece": _calibration_error(probabilities.ravel(), right.ravel()) if multi else _top_calibration_error(probabilities, right),
    }
    names = [label for label, one in zip(labels, seen, strict=True) if one]
    return scores | {f"f1/{name}": float(value) for name, value in zip(names, f1, strict=True)}


def decided(probabilities: np.ndarray, multi: bool) -> np.ndarray:
    """The labels that are given, bool [N, C], for probabilities [N, C]: all likely ones, or the likeliest."""
    if multi:
        return probabilities >= LIKELY
    given = np.zeros(probabilities.shape, dtype=bool)
    given[np.arange(len(given)), probabilities.argmax(1)] = True
    return given


def hit(given: np.ndarray, right: np.ndarray, multi: bool) -> np.ndarray:
    """Which texts have their label, or all of several, bool [N], of the labels given and right, bool [N, C]."""
    return np.all(given == right, axis=1) if multi else np.any(given & right, axis=1)


def entity_scores(found: Sequence[Sequence[Span]], right: Sequence[Sequence[Span]]) -> dict[str, float]:
    """entity_precision, entity_recall, entity_f1, entity_f1/<type> and entity_f1_overlap over all texts.

    Strict and micro-averaged, as seqeval counts: right are start, end and type together. `entity_f1_overlap` counts what
    overlaps an entity of the same type as found.

    Args:
        found: of each text.
        right: of each text.

    Raises:
        DataError: there is nothing to score.
    """
    if not len(right):
        raise DataError("There is no text in the split that is to be scored. Give more data or a larger share for it.")
    said = {(text, span) for text, spans in enumerate(found) for span in spans}
    true = {(text, span) for text, spans in enumerate(right) for span in spans}
    hits = said & true
    scores = {
        "entity_precision": len(hits) / max(len(said), 1),
        "entity_recall": len(hits) / max(len(true), 1),
        "entity_f1": _f1(len(hits), len(said), len(true)),
        "entity_f1_overlap": _overlap_f1(said, true),
    }
    for kind in sorted({span.label for _, span in said | true}):
        counts = (sum(span.label == kind for _, span in spans) for spans in (hits, said, true))
        scores[f"entity_f1/{kind}"] = _f1(*counts)
    return scores


def _f1(hits: int, said: int, true: int) -> float:
    return float(2 * hits / max(said + true, 1))


def _overlap_f1(said: set[tuple[int, Span]], true: set[tuple[int, Span]]) -> float:
    precision, recall = _share_met(said, true), _share_met(true, said)
    return 2 * precision * recall / max(precision + recall, 1e-12)


def _share_met(these: set[tuple[int, Span]], those: set[tuple[int, Span]]) -> float:
    """The share of these spans that overlap one of those, of the same text and type."""
    by_kind: dict[tuple[int, str], list[Span]] = {}
    for text, span in those:
        by_kind.setdefault((text, span.label), []).append(span)
    met = sum(any(a.start < b.end and b.start < a.end for b in by_kind.get((text, a.label), ())) for text, a in these)
    return met / max(len(these), 1)


def _top_calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    top = probabilities.argmax(1)
    rows = np.arange(len(top))
    return _calibration_error(probabilities[rows, top], right[rows, top])


def _calibration_error(sure: np.ndarray, hit: np.ndarray) -> float:
    """The mean distance of probabilities [N] and the share of hits (bool [N]) among those of about the same, by bins."""
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=sure.astype(np.float64) - hit, minlength=BINS)
    return float(np.abs(gaps).sum() / len(sure))
