"""Calibration of predicted probabilities."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0  # bounds of the search


def best_temperature(logits: np.ndarray, right: np.ndarray, several: bool = False) -> float:
    """Fit the temperature that minimises the negative log-likelihood of logits divided by it (temperature scaling, Guo 2017).

    It changes the confidence of predictions, not the predicted classes.

    Args:
        logits: [N, C]; log-probabilities work as well.
        right: the true classes, bool [N, C].
        several: whether each class is a binary decision of its own (multi-label).

    Returns:
        The temperature, from 0.05 to 20.
    """

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if several:
            return float(np.logaddexp(0, np.where(right, -scaled, scaled)).mean())
        return float((logsumexp(scaled, axis=1) - (scaled * right).sum(1)).mean())

    found = minimize_scalar(negative_log_likelihood, bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)), method="bounded")
    return float(np.exp(cast(Any, found).x))
