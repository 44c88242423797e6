"""A budget said in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.settings import Budget


@pytest.mark.parametrize(
    ("goal", "fields"),
    [
        ("at most 1 % worse, as fast as possible on this CPU", {"max_relative_loss": 0.01, "objective": "latency"}),
        ("At most 0,5 points worse and under 5 MB.", {"max_loss": 0.005, "max_megabytes": 5.0}),
        ("under 8 ms p95", {"max_latency_ms": 8.0}),
        ("below 800 us at p95; no worse; the smallest", {"max_latency_ms": 0.8, "max_loss": 0.0, "objective": "size"}),
        ("up to 2 percent lost, but less than 700kB", {"max_relative_loss": 0.02, "max_megabytes": 0.7}),
        ("", {}),
    ],
)
def test_a_sentence_is_a_budget(goal: str, fields: dict[str, Any]) -> None:
    said = Budget(goal=goal)
    assert said == Budget(**fields).model_copy(update={"goal": goal})
    assert Budget.model_validate(said.model_dump()) == said, "it travels to a worker as it is"


def test_what_the_sentence_leaves_open_is_what_is_set() -> None:
    assert Budget(goal="under 5 MB", objective="size", max_megabytes=9) == Budget(goal="under 5 MB", max_megabytes=5, objective="size")


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ("as cheap as possible", "'as cheap as possible' is not understood. What is: \"at most 1 % worse"),
        ("under 5 MB, under 3 MB", "says two things of the same: 'under 3 mb'"),
        ("no worse, at most 1 % worse", "says two things of the same"),
        ("under MB", "'under mb' is not understood"),
    ],
)
def test_what_is_not_understood_is_said(goal: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Budget(goal=goal)
    assert words in str(refused.value)


def test_a_relative_loss_is_of_the_score() -> None:
    assert Budget(goal="at most 1 % worse").allowed(0.8) == pytest.approx(0.008)
    assert Budget().allowed(0.8) == 0.005
