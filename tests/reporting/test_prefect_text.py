from __future__ import annotations

from tasks.contract.artifacts import Interval
from tasks.reporting.facts import Facts
from tasks.reporting.prefect_text import artifacts, data_text, lineage_text, steps_text, summary_text
from tests.reporting.conftest import TRAP


def test_tables_keep_their_shape_and_markup_stays_text(facts: Facts) -> None:
    for text in (summary_text(facts), data_text(facts.card), lineage_text(facts.lineage)):
        assert TRAP not in text
        tables = [[line.count("|") for line in part.splitlines()] for part in text.split("\n\n") if part.startswith("|")]
        assert tables
        assert all(len(set(counts)) == 1 for counts in tables)


def test_the_summary_names_every_candidate_and_reason(facts: Facts) -> None:
    text = summary_text(facts)
    assert "| ✓ | int8 static | 0.9600 | 0.9500 | 0.2 | 0.3 | 5,000 | 0.3 | 10.9 | 0.05 | The fastest within the budget. |" in text
    assert "| accuracy on validation (decides) | on test (reported) |" in text and "Twice as slow." in text
    gains = {"gain": Interval(measured=-0.002, low=-0.0071, high=0.0031), "test_gain": Interval(measured=0, low=-0.01, high=0.02)}
    uncertain = facts.model_copy(update={"chosen": facts.chosen.model_copy(update=gains)})
    assert "| 0.9600 (−0.0071 to +0.0031) | 0.9500 (−0.0100 to +0.0200) | 0.2 |" in summary_text(uncertain)
    assert "mJ" not in text, "nothing is shown of what was not counted"
    counted = facts.model_copy(update={"chosen": facts.chosen.model_copy(update={"energy_millijoules": 1.25})})
    assert "| 10.9 | 1.25 | 0.05 | The fastest" in summary_text(counted) and "| 13.6 | – | 0.05 | Twice" in summary_text(counted)


def test_the_graph_is_mermaid_with_cached_steps_dashed(facts: Facts) -> None:
    assert steps_text(facts.steps).splitlines() == [
        "```mermaid",
        "graph LR",
        '  s0["prepare<br/>from cache"]',
        '  s1["train<br/>40.0 s"]',
        '  s2["export<br/>2.0 s"]',
        '  s3["release<br/>1.0 s"]',
        "  s0 --> s1",
        "  s1 --> s2",
        "  s2 --> s3",
        "  style s0 stroke-dasharray: 5 4",
        "```",
    ]


def test_keys_suit_prefect(facts: Facts) -> None:
    assert set(artifacts(facts)) == {"summary", "data", "training", "steps", "lineage"}
