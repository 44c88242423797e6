"""The paired bootstrap: whether the scores of two models differ significantly (Efron 1979; Koehn 2004)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.contract.artifacts import Interval
from tasks.contract.statistics import Statistics

DRAWS = 2000  # bootstrap samples
AT_ONCE = 20_000_000  # numbers that are drawn at the same time, which limits the memory
CONFIDENCE = 0.95


def difference(one: Statistics, other: Statistics, draws: int = DRAWS) -> Interval:
    """The difference of two scores with its 95 % bootstrap interval.

    Args:
        one: statistics of a model on N examples.
        other: statistics of the model whose score is subtracted, on the same examples in the same order.
        draws: number of bootstrap samples.

    Returns:
        The score of `one` minus that of `other`, and its interval.
    """
    return differences([one], other, draws)[0]


def differences(each: Sequence[Statistics], reference: Statistics, draws: int = DRAWS) -> list[Interval]:
    """The differences of several scores from that of a reference, each with its 95 % bootstrap interval.

    All models are scored on the same samples, so that the differences are paired.

    Args:
        each: statistics of each model, on the N examples of the reference in the same order.
        reference: statistics of the model whose score is subtracted.
        draws: number of bootstrap samples, each of N examples drawn with replacement.

    Returns:
        An interval for each model.
    """
    count, random = len(reference.counts), np.random.default_rng(0)
    step, found = max(1, AT_ONCE // count), []
    for start in range(0, draws, step):
        weights = random.multinomial(count, np.full(count, 1 / count), size=min(step, draws - start)) / count
        scores = reference.value(weights @ reference.counts)
        found.append([one.value(weights @ one.counts) - scores for one in each])
    drawn = np.concatenate(found, axis=1) if each else np.zeros((0, draws))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1)
    base = reference.value(reference.counts.mean(0))
    return [
        Interval(measured=float(one.value(one.counts.mean(0)) - base), low=float(low[row]), high=float(high[row]))
        for row, one in enumerate(each)
    ]
