"""What the choice needs of the candidates' examples: gains over the reference, and the same with a part of the split held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tasks.contract.artifacts import Fold, Interval
from tasks.contract.statistics import Statistics
from tasks.evaluation.bootstrap import differences
from tasks.evaluation.validation import Scored

FOLDS = 10
MIN_EXAMPLES = 5  # of a part that is held out
FOLD_DRAWS = 500  # of the bootstrap in each fold, which only feeds a vote


def best(scored: Sequence[Scored], plain: Sequence[bool]) -> int:
    """The place of the reference: the best candidate that was not compressed (`plain`); the first where all are."""
    return max((place for place, one in enumerate(plain) if one), key=lambda place: scored[place].value, default=0)


def gains_over(reference: int, scored: Sequence[Scored]) -> list[Interval | None]:
    """Of each candidate, the paired interval of its score minus that of the reference; None for the reference itself and without statistics."""
    statistics = [one.statistics for one in scored]
    base = statistics[reference]
    others = {place: one for place, one in enumerate(statistics) if place != reference and one is not None}
    if base is None or not others:
        return [None] * len(scored)
    found = dict(zip(others, differences(list(others.values()), base), strict=True))
    return [found.get(place) for place in range(len(scored))]


def folds(scored: Sequence[Scored], plain: Sequence[bool]) -> list[tuple[Fold, ...]]:
    """Of each candidate, what K-fold cross-validation of the choice needs (see `tasks.evaluation.choose`): scores, without any example.

    Nothing is trained again: the statistics of the examples are split at random into ten parts, and each part in turn is held out.

    Args:
        scored: all candidates on the N examples of the validation split.
        plain: which of them were not compressed.

    Returns:
        No folds where a candidate has no statistics, the examples are too few, or a score is not defined on so few.
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
        reference = max((place for place, one in enumerate(plain) if one), key=scores.__getitem__, default=0)
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
