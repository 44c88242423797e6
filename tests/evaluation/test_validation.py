"""The rule by which a loss is accepted, and the cache with which a split is run only once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.contract.artifacts import Interval
from tasks.contract.types import Arrays
from tasks.evaluation.validation import Comparison, compare, is_within, memoized, score_split
from tests.toy import CountedToy, Points, ToyUseCase


@pytest.mark.parametrize(
    ("loss", "high", "within"),
    [
        (0.004, None, True),
        (0.004, -0.001, True),  # a significant loss within the budget
        (0.006, None, False),
        (0.006, 0.001, True),  # not significant
        (0.006, -0.001, False),
        (0.010, 0.020, True),
        (0.011, 0.020, False),  # more than twice the accepted loss
    ],
)
def test_a_loss_is_accepted_within_the_budget_or_up_to_twice_as_much_if_not_significant(
    loss: float, high: float | None, within: bool
) -> None:
    gain = None if high is None else Interval(measured=-loss, low=-0.03, high=high)
    assert is_within(loss, gain, 0.005) == within
    assert Comparison(score=0.5 - loss, reference=0.5, gain=gain).is_within(0.005 + 1e-12) == within


class Circle:
    """A predictor of the toy that predicts the second class outside of a circle, and counts its rows."""

    def __init__(self, radius: float) -> None:
        self.radius, self.asked = radius, 0

    def __call__(self, inputs: Arrays) -> Arrays:
        self.asked += len(inputs["point"])
        outside = (np.square(inputs["point"]).sum(1) > self.radius).astype(np.float32)
        return {"probabilities": np.stack([1 - outside, outside], axis=1)}


def test_a_split_is_run_once_for_scores_and_statistics(toy_data: Path) -> None:
    predict = Circle(1.0)
    scored = score_split(CountedToy(), predict, toy_data)
    label = Points(toy_data / "validation").label
    assert predict.asked == len(label)
    assert scored.statistics is not None
    assert scored.value == pytest.approx(float(scored.statistics.counts.mean()))
    exact = compare(scored, score_split(CountedToy(), Circle(1.4), toy_data))
    assert exact.reference == 1 and exact.gain is not None
    assert exact.gain.measured == pytest.approx(-exact.loss) and exact.gain.low <= exact.gain.measured <= exact.gain.high
    plain = score_split(ToyUseCase(), predict, toy_data)
    assert compare(plain, plain) == Comparison(score=scored.value, reference=scored.value, gain=None)


def test_outputs_that_fit_the_memory_are_cached_by_their_inputs() -> None:
    calls: list[float] = []

    def double(inputs: Arrays) -> Arrays:
        calls.append(float(inputs["x"][0]))
        return {"y": 2 * inputs["x"]}

    batches = [{"x": np.full(10, value)} for value in (1.0, 2.0, 3.0)]
    predict = memoized(double, memory=160)
    for _ in range(2):
        for batch in batches:
            assert np.array_equal(predict(batch)["y"], 2 * batch["x"])
    assert calls == [1, 2, 3, 3], "the third did not fit"
    predict({"x": batches[0]["x"].reshape(2, 5)[0]})
    assert len(calls) == 5, "the same numbers in another shape"


@pytest.mark.parametrize("count", [200, 600, 1000, 2000])
def test_exactly_the_accepted_loss_is_accepted(count: int) -> None:
    lost = count // 200
    for hits in range(count // 2, count + 1):
        loss = hits / count - (hits - lost) / count
        assert is_within(loss, None, 0.005) and not is_within(loss, None, 0.005 - 0.5 / count)


def test_a_loss_that_is_not_a_number_is_refused() -> None:
    assert not is_within(float("nan"), None, 0.005)
