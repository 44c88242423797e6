"""A score taken apart by example, so that two models can be told from noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Per-example statistics of a score: what each example adds to it, and how the score is made of that.

    `counts` is float64 [N, K]; `value` takes means of it, [..., K], to scores, [...]: for accuracy K is 1 and the score the mean itself,
    for F1 the counts are hits, given and right, and so on. So samples of the examples can be scored without asking the model again.
    """

    counts: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]


def mean_of(means: np.ndarray) -> np.ndarray:
    """The `value` of a score that is a mean over the examples."""
    return means[..., 0]
