"""How near the network's steering is to the driver's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.contract.types import Arrays
from usecases.driving_perception.heads.head import Judge

TINY = 1e-9
WITHIN = 1.96  # deviations: 95 % of the errors of a normal distribution


class SteeringJudge(Judge):
    """Moments of a split in the order of time: what was driven, what was predicted and with which deviation.

    Args:
        targets: what is predicted, steering first.
        usual: means of the training split.
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
        """Of each moment the squared errors of what was said, and of saying what is usual, [N, 2]."""
        wanted, value = np.stack(self.wanted)[:, 0], np.stack(self.values)[:, 0]
        return np.square(np.stack([value - wanted, wanted - self.usual[0]], axis=1))

    def value(self, means: np.ndarray) -> np.ndarray:
        """steering_r2"""
        return 1 - means[..., 0] / np.maximum(means[..., 1], TINY)

    def scores(self) -> dict[str, float]:
        """steering_rmse, steering_mae, the share of the variance explained steering_r2, and of which errors 95 % are said to be within: coverage95.

        `steering_rmse_mean` is what saying the mean of the training split always would reach. The same of the throttle where it was recorded.
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
