"""The bootstrap interval of a difference: its size, pairing, and use in the choice."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.contract.artifacts import Interval
from tasks.contract.statistics import Statistics, mean_of
from tasks.evaluation.bootstrap import difference
from tasks.evaluation.choose import choose
from tasks.settings import Budget
from tests.evaluation.test_choose import FULL, SMALL, candidate


def accuracy(right: np.ndarray) -> Statistics:
    return Statistics(right.astype(np.float64)[:, None], mean_of)


def test_the_interval_is_that_of_the_paired_difference() -> None:
    random = np.random.default_rng(1)
    right = random.random(4000) < 0.9
    other = right ^ (random.random(4000) < 0.02)  # it differs on one example in fifty, mostly for the worse
    found = difference(accuracy(other), accuracy(right))
    paired = other.astype(float) - right
    half = 1.96 * paired.std() / np.sqrt(len(paired))
    assert found.measured == pytest.approx(paired.mean())
    assert (found.low, found.high) == pytest.approx((paired.mean() - half, paired.mean() + half), abs=0.0006)
    assert found.high < 0, "a small difference between models that mostly agree is significant"
    shuffled = difference(accuracy(random.permutation(other)), accuracy(right))
    assert shuffled.low < found.low < found.high < shuffled.high, "without pairs it would not be significant"


def test_a_model_does_not_differ_from_itself() -> None:
    same = accuracy(np.random.default_rng(0).random(50) < 0.5)
    assert difference(same, same) == Interval(measured=0, low=0, high=0)


@pytest.mark.parametrize(
    ("accuracy", "gain", "chosen"),
    [
        (0.918, None, "small"),
        (0.918, Interval(measured=-0.007, low=-0.012, high=-0.002), "small"),  # a significant loss of 0.007
        (0.918, Interval(measured=-0.007, low=-0.016, high=0.002), "lucky"),  # a loss that is not significant
        (0.905, Interval(measured=-0.020, low=-0.050, high=0.010), "small"),  # more than twice the accepted loss
    ],
)
def test_noise_is_not_taken_for_loss(accuracy: float, gain: Interval | None, chosen: str) -> None:
    uncertain = candidate("lucky", accuracy, 0.1, 0.5).model_copy(update={"gain": gain})
    winner, reason, _ = choose([FULL, SMALL, uncertain], "accuracy", Budget(max_loss=0.005))
    assert winner.label == chosen
    assert ("95 % interval -0.0160 to +0.0020" in reason) == (chosen == "lucky")
