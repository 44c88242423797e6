"""A budget given as a sentence."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.goals import read_goal
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


def test_fields_that_a_sentence_leaves_open_keep_their_settings() -> None:
    assert Budget(goal="under 5 MB", objective="size", max_megabytes=9) == Budget(goal="under 5 MB", max_megabytes=5, objective="size")


def test_no_loss_takes_precedence_over_other_settings() -> None:
    for goal in ("no worse", "at most 0 % worse", "at most 0 points lost"):
        assert Budget(goal=goal, max_relative_loss=0.1).allowed(0.8) == 0


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (
            "as cheap as possible",
            "Understood: nothing; not understood: 'as cheap as possible'. Expected something like \"at most 1 % worse",
        ),
        ("at most 1 % worse on my phone", "Understood: nothing; not understood: 'at most 1 % worse on my phone'"),
        ("at most 1 % worse, on my phone", "Understood: max_relative_loss 0.01; not understood: 'on my phone'"),
        ("under 5 MB, under 3 MB", "Understood: max_megabytes 5.0; contradicts another part: 'under 3 mb'"),
        ("no worse, at most 1 % worse", "Understood: max_loss 0.0, max_relative_loss 0.0; contradicts another part"),
        ("as fast as possible, the smallest", "Understood: objective latency; contradicts another part: 'the smallest'"),
        ("the smallest and at most 100 % worse", "Understood: objective size; out of range: 'at most 100 % worse'"),
        ("under 0 ms", "out of range: 'under 0 ms'"),
        ("under 1,500 kB", "not understood: 'under 1,500 kb'"),
        ("not under 5 MB; under MB", "not understood: 'not under 5 mb'; not understood: 'under mb'"),
        (" , ", "Understood: nothing"),
    ],
)
def test_a_sentence_that_is_not_understood_is_refused_with_the_parts_that_were(goal: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Budget(goal=goal)
    assert words in str(refused.value)


UNDERSTOOD: list[tuple[str, dict[str, Any]]] = [
    ("at most 2 % worse", {"max_relative_loss": 0.02}),
    ("under 5 MB", {"max_megabytes": 5.0}),
    ("below 8 ms p95", {"max_latency_ms": 8.0}),
    ("as small as possible", {"objective": "size"}),
]
JUNK = ("on my phone", "or", "not", "roughly", "7", "%", "at least 3 MB", "cheap", "under", "worse", "5 MB", "ms", "per day", "!", "=")


def test_a_sentence_of_parts_and_junk_is_understood_as_a_whole_or_refused() -> None:
    chance = random.Random(0)
    outcomes = [0, 0]
    for _ in range(3000):
        parts = chance.sample(UNDERSTOOD, chance.randint(1, len(UNDERSTOOD)))
        words = [part for part, _ in parts]
        junk = chance.random() < 0.7
        if junk:  # a part of its own, or somewhere within one
            place, word = chance.randrange(len(words)), chance.choice(JUNK)
            tokens = words[place].split()
            tokens.insert(chance.randint(0, len(tokens)), word)
            words = [*words[:place], *([word, words[place]] if chance.random() < 0.3 else [" ".join(tokens)]), *words[place + 1 :]]
        sentence = chance.choice((", ", "; ", " and ", ", but ")).join(words)
        expected = {name: value for _, fields in parts for name, value in fields.items()}
        outcomes[junk] += 1
        if junk:
            with pytest.raises(ValueError, match=r"is refused\. Understood: "):
                read_goal(sentence)
        else:
            assert read_goal(sentence) == expected, sentence
    assert min(outcomes) > 500


def test_a_relative_loss_is_of_the_score() -> None:
    assert Budget(goal="at most 1 % worse").allowed(0.8) == pytest.approx(0.008)
    assert Budget().allowed(0.8) == 0.005
