"""Whether two models differ in quality, or only by chance: the paired bootstrap (Efron 1979; Koehn 2004)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.contract.artifacts import Interval
from tasks.contract.statistics import Statistics

DRAWS = 2000
AT_ONCE = 20_000_000  # numbers of the weights that are drawn together
CERTAINTY = 0.95


def difference(one: Statistics, other: Statistics, draws: int = DRAWS) -> Interval:
    """The score of `one` minus that of `other`, on the same examples, and the interval in which it lies in 95 % of samples like these."""
    return differences([one], other, draws)[0]


def differences(each: Sequence[Statistics], reference: Statistics, draws: int = DRAWS) -> list[Interval]:
    """The score of each model minus that of the reference, and the interval in which it lies in 95 % of samples like these.

    Args:
        each: of the N examples of the reference, in the same order.
        reference: what is subtracted.
        draws: samples of N examples, drawn with replacement; all models are scored on each, so that the differences are paired.
    """
    count, random = len(reference.counts), np.random.default_rng(0)
    step, found = max(1, AT_ONCE // count), []
    for start in range(0, draws, step):
        weights = random.multinomial(count, np.full(count, 1 / count), size=min(step, draws - start)) / count
        scores = reference.value(weights @ reference.counts)
        found.append([one.value(weights @ one.counts) - scores for one in each])
    drawn = np.concatenate(found, axis=1) if each else np.zeros((0, draws))
    low, high = np.quantile(drawn, [(1 - CERTAINTY) / 2, (1 + CERTAINTY) / 2], axis=1)
    base = reference.value(reference.counts.mean(0))
    return [
        Interval(measured=float(one.value(one.counts.mean(0)) - base), low=float(low[row]), high=float(high[row]))
        for row, one in enumerate(each)
    ]
