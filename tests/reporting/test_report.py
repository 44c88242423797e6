from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tasks.contract.artifacts import Evaluation, Interval, Rejection
from tasks.reporting import charts, dag, pareto
from tasks.reporting.blocks import draw
from tasks.reporting.facts import Facts, Step, verdict
from tasks.reporting.html import Markup, tag
from tasks.reporting.report import page, write_report
from tests.reporting.conftest import PIXEL, TRAP, blocks, facts_with

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """What a browser would see: text, tags, attributes; refuses tags that are not closed in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_needs_no_host(facts: Facts, tmp_path: Path) -> None:
    written = write_report(facts, tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    page = Reader(written)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "data", "srcset")]
    assert all(value.startswith(("#", "data:image/")) for value in sources)
    assert PIXEL in sources
    assert not re.search(r"@import|url\(|https?:", written)


def test_text_from_data_stays_text(facts: Facts) -> None:
    written = page(facts)
    assert TRAP not in written
    assert Reader(written).text.count(TRAP) >= 8


def test_every_candidate_stands_with_its_reason(facts: Facts) -> None:
    text = Reader(page(facts)).text
    assert f"Chosen. {facts.reason}" in text
    for rejection in facts.rejected:
        assert rejection.evaluation.label in text
        assert rejection.reason in text


def test_the_verdict_gives_the_test_figures(facts: Facts) -> None:
    assert verdict(facts) == (
        "int8 static was chosen on validation: accuracy 0.9500 on 20 test examples, 0.2 ms per request (p95 0.3 ms), 0.3 MB. "
        "Compared with fp32, the best candidate that was not compressed: accuracy −0.0020, 2× faster, 4× smaller."
    )
    uncertain = facts.chosen.model_copy(update={"test_gain": Interval(measured=-0.002, low=-0.0071, high=0.0031)})
    assert "accuracy −0.0020 (95 % interval −0.0071 to +0.0031), 2× faster" in verdict(facts.model_copy(update={"chosen": uncertain}))


def test_both_splits_are_shown_with_their_intervals(facts: Facts) -> None:
    text = Reader(page(facts)).text
    assert "95 % interval" not in text
    assert "accuracy on validation" in text and "The candidate is chosen on the validation split" in text
    gains = {"gain": Interval(measured=-0.002, low=-0.0071, high=0.0031), "test_gain": Interval(measured=0, low=-0.01, high=0.02)}
    text = Reader(page(facts.model_copy(update={"chosen": facts.chosen.model_copy(update=gains)}))).text
    assert "0.9600−0.0071 to +0.0031" in text and "0.9500−0.0100 to +0.0200" in text and "(paired bootstrap)" in text


def test_what_adapting_gained_and_forgot_is_told_slice_by_slice(facts: Facts) -> None:
    def scored(evaluation: Evaluation, night: float, day: float, **changes: Any) -> Evaluation:
        model = evaluation.model.model_copy(update=changes)
        return evaluation.model_copy(update={"model": model, "scores": {"accuracy": 0.8, "accuracy/night": night, "accuracy/day": day}})

    before = scored(facts.rejected[0].evaluation, 0.5, 0.9, role="before", label="before adapting")
    rejected = (Rejection(evaluation=before, reason="It was before."), *facts.rejected[1:])
    assert "Effect of the adaptation" not in page(facts)
    text = page(facts.model_copy(update={"chosen": scored(facts.chosen, 0.62, 0.87), "rejected": rejected}))
    assert "Effect of the adaptation" in text and "0.6200 (+12.0)" in text and "0.8700 (−3.0)" in text


def test_the_front_is_what_no_other_beats_in_both() -> None:
    assert pareto.pareto_front([(2, 0.9), (1, 0.8), (1, 0.7), (3, 0.9), (2, 0.9), (9, 0.95)]) == [1, 0, 4, 5]
    assert pareto.pareto_front([(5, 0.1)]) == [0]


def test_the_planes_tell_the_front_the_chosen_and_the_budget(facts: Facts) -> None:
    text = Reader(page(facts)).text
    assert "1, int8 static: validation accuracy 0.9600, p50 latency, ms 0.2, chosen, on the Pareto front." in text
    assert "3, int8 dynamic: validation accuracy 0.9100, p50 latency, ms 0.3, dominated." in text
    assert "The shaded area is outside the budget: validation accuracy below 0.9570." in text
    limited = facts.model_copy(update={"settings": {"budget": {"max_loss": 0.005, "max_latency_ms": 0.5, "max_megabytes": 1.0}}})
    text = Reader(page(limited)).text
    assert "validation accuracy against p95 latency, ms of every candidate" in text, "the percentile that is limited"
    assert "validation accuracy below 0.9570, a p95 over 0.5 ms, more than 1 MB." in text


@pytest.mark.parametrize("costs", [[1.0] * 10, [1 + i / 1000 for i in range(10)], [10.0**-i for i in range(10)]])
def test_discs_never_cover_each_other(costs: list[float]) -> None:
    points = [{"label": f"candidate {i}", "x": x, "y": 0.9 + i / 10_000, "strong": i == 0} for i, x in enumerate(costs)]
    drawn = pareto.pareto_plot(points, "cost", "worth", "plane", floor=0.895, limit=2.0)
    texts = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" dy="0.36em" text-anchor="middle">\d+<', drawn)
    spots = [(float(x), float(y)) for x, y in texts]
    assert len(spots) == 10
    assert all(math.dist(one, other) >= 18 for i, one in enumerate(spots) for other in spots[:i])
    assert all(0 < x < charts.WIDTH and 0 < y < charts.HEIGHT - charts.BOTTOM for x, y in spots)


def test_a_run_with_next_to_nothing_to_tell_still_has_a_report(facts: Facts) -> None:
    bare = Facts(flow="toy", settings={}, card={}, chosen=facts.chosen, reason="The only one.", seconds=1)
    text = Reader(page(bare)).text
    assert "The only one." in text
    assert "Quantisation" not in text


@pytest.mark.parametrize("classes", [200, 1000])
def test_many_classes_do_not_flood_the_page(classes: int) -> None:
    many = facts_with([f"class {i}" for i in range(classes)]).model_copy(update={"figures": {}})
    written = page(many)
    assert len(written) < 60_000
    assert f"{classes - 20:,} classes between" in Reader(written).text


@pytest.mark.parametrize("block", blocks(["a", "b"]), ids=lambda b: b["kind"])
def test_each_kind_of_block_is_drawn_under_its_title(block: dict[str, object]) -> None:
    drawn = Reader(draw(block))
    assert drawn.text.startswith(str(block["title"]))
    assert len(drawn.tags) > 4


def test_pictures_from_elsewhere_are_not_fetched() -> None:
    drawn = draw({"kind": "gallery", "title": "t", "items": [{"image": "https://example.org/x.png", "lines": ["x"]}]})
    assert "<img" not in drawn


def test_tags_escape_text_and_attributes_but_not_markup() -> None:
    assert tag("p", "<b>", Markup("<i>"), title='"x"', hidden=None, x=0) == '<p title="&quot;x&quot;" x="0">&lt;b&gt;<i></p>'


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.9247, 0.9373), (1e-5, 3e-5), (-3, 12), (0, 98_000)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = charts.ticks(low, high)
    assert 3 <= len(found) <= 7
    assert low - 1e-9 <= found[0] < found[-1] <= high + 1e-9
    assert all(len(f"{value:g}".lstrip("-")) <= 7 for value in found)


def test_arrows_that_a_longer_way_implies_are_left_out() -> None:
    names = {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("a",), "e": ("a", "c", "d")}
    steps = [Step(name=name, seconds=1, needs=needs) for name, needs in names.items()]
    assert dag.edges(steps) == [("a", "b"), ("b", "c"), ("a", "d"), ("c", "e"), ("d", "e")]
    assert dag.slots(steps) == {"a": (0, 0), "b": (1, 0), "d": (1, 1), "c": (2, 0), "e": (3, 0)}
