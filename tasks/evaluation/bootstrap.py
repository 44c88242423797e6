"""Whether two models differ in quality, or only in luck: the paired bootstrap (Efron 1979; Koehn 2004)."""

from __future__ import annotations

import numpy as np

from tasks.contract.artifacts import Interval
from tasks.contract.statistics import Statistics

DRAWS = 2000
AT_ONCE = 20_000_000  # numbers of the weights that are drawn together
CERTAINTY = 0.95


def difference(one: Statistics, other: Statistics, draws: int = DRAWS) -> Interval:
    """The score of `one` minus that of `other`, on the same examples, and the interval in which it lies in 95 % of samples like these.

    Args:
        one, other: of the same N examples in the same order.
        draws: samples of N examples, drawn with replacement; both models are scored on each.
    """
    count, random = len(one.counts), np.random.default_rng(0)
    step, found = max(1, AT_ONCE // count), []
    for start in range(0, draws, step):
        weights = random.multinomial(count, np.full(count, 1 / count), size=min(step, draws - start)) / count
        found.append(one.value(weights @ one.counts) - other.value(weights @ other.counts))
    low, high = np.quantile(np.concatenate(found), [(1 - CERTAINTY) / 2, (1 + CERTAINTY) / 2])
    measured = float(one.value(one.counts.mean(0)) - other.value(other.counts.mean(0)))
    return Interval(measured=measured, low=float(low), high=float(high))
