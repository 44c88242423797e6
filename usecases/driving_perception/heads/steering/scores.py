"""Scores of the steering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.contract.types import Arrays
from usecases.driving_perception.heads.head import Evaluator

TINY = 1e-9
WITHIN = 1.96  # standard deviations: 95 % interval of a normal distribution


class SteeringEvaluator(Evaluator):
    """Recorded and predicted values of a split, in the order of time, with the predicted standard deviations.

    Args:
        targets: names of the values, steering first.
        usual: their means in the training split.
    """

    def __init__(self, targets: Sequence[str], usual: Sequence[float]) -> None:
        super().__init__()
        self.targets, self.usual = list(targets), np.array(usual)
        self.wanted: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        self.deviations: list[np.ndarray] = []

    def add(self, row: int, truth: Arrays, answers: Arrays) -> None:
        self.rows.append(row)
        for kept, one in ((self.wanted, truth["values"]), (self.values, answers["values"]), (self.deviations, answers["deviations"])):
            kept.append(one.astype(np.float64))

    def counts(self) -> np.ndarray:
        """Squared errors of the steering and of the mean of the training split as its prediction, [N, 2]."""
        wanted, value = np.stack(self.wanted)[:, 0], np.stack(self.values)[:, 0]
        return np.square(np.stack([value - wanted, wanted - self.usual[0]], axis=1))

    def value(self, means: np.ndarray) -> np.ndarray:
        """steering_r2"""
        return 1 - means[..., 0] / np.maximum(means[..., 1], TINY)

    def scores(self) -> dict[str, float]:
        """steering_r2, steering_rmse, steering_mae, steering_rmse_mean and steering_coverage95, and the same of the throttle if recorded.

        `steering_rmse_mean` is the error of always predicting the mean of the training split; `steering_coverage95` is the share of true
        values within the predicted 95 % interval.
        """
        value, deviation, wanted = (np.stack(rows) for rows in (self.values, self.deviations, self.wanted))
        measured: dict[str, float] = {}
        for column, target in enumerate(self.targets):
            error, plain = (value - wanted)[:, column], wanted[:, column] - self.usual[column]
            measured |= {
                f"{target}_r2": float(1 - np.square(error).mean() / max(np.square(plain).mean(), TINY)),
                f"{target}_rmse": float(np.sqrt(np.square(error).mean())),
                f"{target}_mae": float(np.abs(error).mean()),
                f"{target}_rmse_mean": float(np.sqrt(np.square(plain).mean())),
                f"{target}_coverage95": float((np.abs(error) <= WITHIN * deviation[:, column]).mean()),
            }
        return measured
