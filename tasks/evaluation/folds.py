"""Gains of candidates over the reference, with intervals, on a whole split and in each fold of a cross-validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tasks.contract.artifacts import Fold, Interval
from tasks.contract.statistics import Statistics
from tasks.evaluation.bootstrap import differences
from tasks.evaluation.validation import Scored, or_worst

FOLDS = 10
MIN_EXAMPLES = 5  # in a held-out part
FOLD_DRAWS = 500  # bootstrap samples in each fold, fewer than for a whole split, since each fold has only one vote


def best(scored: Sequence[Scored], plain: Sequence[bool]) -> int:
    """Index of the reference: the best candidate that was not compressed (`plain`), or the first one if all were."""
    return max((place for place, one in enumerate(plain) if one), key=lambda place: or_worst(scored[place].value), default=0)


def gains_over(reference: int, scored: Sequence[Scored]) -> list[Interval | None]:
    """For each candidate its score minus that of the reference, with its paired interval; None for the reference, or without statistics."""
    statistics = [one.statistics for one in scored]
    base = statistics[reference]
    others = {place: one for place, one in enumerate(statistics) if place != reference and one is not None}
    if base is None or not others:
        return [None] * len(scored)
    found = dict(zip(others, differences(list(others.values()), base), strict=True))
    return [found.get(place) for place in range(len(scored))]


def folds(scored: Sequence[Scored], plain: Sequence[bool]) -> list[tuple[Fold, ...]]:
    """Scores of each candidate for the cross-validation of the choice (see `tasks.evaluation.choose`).

    The examples are split at random into ten parts, each of which is held out in turn. Nothing is trained again, since the scores follow
    from the per-example statistics.

    Args:
        scored: all candidates on the N examples of the validation split.
        plain: for each candidate whether it was not compressed.

    Returns:
        The folds of each candidate. All are empty if a candidate has no statistics, there are too few examples, or a score is not finite on so
        few.
    """
    statistics = [one.statistics for one in scored if one.statistics is not None]
    count = len(statistics[0].counts) if statistics else 0
    if len(statistics) < len(scored) or count < FOLDS * MIN_EXAMPLES:
        return [()] * len(scored)
    found: list[list[Fold]] = [[] for _ in scored]
    for part in np.array_split(np.random.default_rng(0).permutation(count), FOLDS):
        rest = np.setdiff1d(np.arange(count), part)
        on_rest, on_part = ([_of_rows(one, rows) for one in statistics] for rows in (rest, part))
        scores = [_score(one) for one in on_rest]
        reference = max((place for place, one in enumerate(plain) if one), key=lambda place: or_worst(scores[place]), default=0)
        gains = differences(on_rest, on_rest[reference], FOLD_DRAWS)
        for place, each in enumerate(found):
            gain = gains[place] if place != reference else None
            each.append(Fold(score=scores[place], gain=gain, held_out=_score(on_part[place])))
    defined = all(math.isfinite(value) for each in found for fold in each for value in (fold.score, fold.held_out))
    return [tuple(each) if defined else () for each in found]


def _of_rows(statistics: Statistics, rows: np.ndarray) -> Statistics:
    return replace(statistics, counts=statistics.counts[rows])


def _score(statistics: Statistics) -> float:
    return float(statistics.value(statistics.counts.mean(0)))
