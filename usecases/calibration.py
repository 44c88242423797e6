"""How sure a model may say it is."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

SMALLEST, LARGEST = 0.05, 20.0  # of a temperature that makes sense


def best_temperature(logits: np.ndarray, right: np.ndarray, several: bool = False) -> float:
    """Temperature scaling (Guo 2017): the one number to divide logits by that minimises the negative log-likelihood.

    It changes no answer, only how sure a model says it is.

    Args:
        logits: [N, C]; logarithms of probabilities will do.
        right: which classes are right, bool [N, C].
        several: each class is a yes or no of its own.
    """

    def surprise(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if several:
            return float(np.logaddexp(0, np.where(right, -scaled, scaled)).mean())
        return float((logsumexp(scaled, axis=1) - (scaled * right).sum(1)).mean())

    found = minimize_scalar(surprise, bounds=(np.log(SMALLEST), np.log(LARGEST)), method="bounded")
    return float(np.exp(cast(Any, found).x))
