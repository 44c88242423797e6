"""Per-example statistics of a score, with which differences between models can be tested for significance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Per-example statistics of a score that is a function of means over the examples.

    For accuracy, K is 1: the count is 1 for a correct example, and the score is its mean. For F1, K is 3: true positives, predicted and
    actual positives. With these statistics any subset or bootstrap sample of the examples is scored without running the model again.
    """

    counts: np.ndarray
    """float64 [N, K]: K numbers for each of the N examples."""
    value: Callable[[np.ndarray], np.ndarray]
    """Scores [...] from means of the counts [..., K]."""


def mean_of(means: np.ndarray) -> np.ndarray:
    """The `value` of a score that is itself a mean over the examples, such as accuracy: means [..., 1] to scores [...]."""
    return means[..., 0]
