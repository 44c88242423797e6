"""The choice, case by case, and the words for it."""

from __future__ import annotations

import pytest

from tasks.contract.artifacts import Evaluation, Latency, OnnxModel
from tasks.evaluation.choose import choose
from tasks.settings import Budget
from tests.toy import ToyUseCase


def candidate(label: str, accuracy: float, p50: float, megabytes: float) -> Evaluation:
    role = {"fp32": "full", "table": "baseline"}.get(label, "compressed")
    fields = {"digest": label, "usecase": ToyUseCase(), "label": label, "megabytes": megabytes, "role": role}
    model = OnnxModel.model_validate(fields)
    latency = Latency(p50=p50, p95=2 * p50)
    return Evaluation(
        model=model,
        scores={"accuracy": accuracy},
        latency_ms=latency,
        throughput=1,
        megabytes=megabytes,
        memory_megabytes=1,
        load_seconds=0,
        cpu="",
        threads=1,
    )


FULL, FAST, SMALL, POOR = (
    candidate("fp32", 0.925, 0.40, 4.0),
    candidate("fast", 0.924, 0.20, 1.5),
    candidate("small", 0.923, 0.30, 1.0),
    candidate("poor", 0.912, 0.10, 0.9),
)
EVERY = [FULL, FAST, SMALL, POOR]


@pytest.mark.parametrize(
    ("budget", "chosen", "loser", "words"),
    [
        (Budget(), "fast", "poor", "Its accuracy of 0.9120 is 1.30 points below fp32's 0.9250; 0.50 are allowed."),
        (Budget(), "fast", "fp32", "Within the budget, but 2.0 times slower: 0.400 against 0.200 ms."),
        (Budget(objective="size"), "small", "fast", "Within the budget, but 1.5 times larger: 1.50 against 1.00 MB."),
        (Budget(max_loss=0.02), "poor", "fast", "Within the budget, but 2.0 times slower"),
        (Budget(max_loss=0), "fp32", "fast", "Its accuracy of 0.9240 is 0.10 points below fp32's 0.9250; 0.00 are allowed."),
        (Budget(max_megabytes=1.2), "small", "fp32", "Its 4.00 MB are over the 1.2 MB allowed."),
        (Budget(max_latency_ms=0.5), "fast", "fp32", "Its p95 of 0.80 ms is over the 0.5 ms allowed."),
    ],
)
def test_the_best_within_the_budget_is_chosen_and_each_other_one_told_why(budget: Budget, chosen: str, loser: str, words: str) -> None:
    winner, reason, rejected = choose(EVERY, "accuracy", budget)
    assert winner.label == chosen
    assert reason
    reasons = {rejection.evaluation.label: rejection.reason for rejection in rejected}
    assert set(reasons) == {e.label for e in EVERY} - {chosen}
    assert words in reasons[loser]


def test_a_budget_that_nothing_meets_is_said_to_be_missed() -> None:
    winner, reason, rejected = choose(EVERY, "accuracy", Budget(max_latency_ms=0.01))
    assert winner.label == "fp32"
    assert reason.startswith("No candidate is within the budget; this one has the best accuracy, but its p95 of 0.80 ms is over")
    assert len(rejected) == 3


def test_noise_is_not_taken_for_speed() -> None:
    twin = candidate("twin", 0.924, 0.204, 1.5)
    _, _, rejected = choose([FULL, FAST, twin], "accuracy", Budget())
    reasons = {rejection.evaluation.label: rejection.reason for rejection in rejected}
    assert "about as fast (0.204 against 0.200 ms), but not smaller" in reasons["twin"]


def test_a_baseline_that_is_better_is_released() -> None:
    chosen, _, rejected = choose([*EVERY, candidate("table", 0.95, 0.5, 9.0)], "accuracy", Budget())
    assert chosen.label == "table"
    assert all("below table's 0.9500" in rejection.reason for rejection in rejected)
