"""The report of a run: one HTML file that needs nothing beside itself, neither a host nor a script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.contract.artifacts import Evaluation
from tasks.reporting import blocks, charts, dag, origins, plane, training
from tasks.reporting.facts import Facts, measures, verdict
from tasks.reporting.html import Markup, join, tag
from tasks.reporting.words import duration, interval, plain, quantity, score, times
from tasks.settings import Budget

SPLITS = "The validation split decides which candidate is released; the test split is reported and decides nothing."
NOISE = (
    "Below a score is the 95 % interval of its difference from the best candidate on validation that was not compressed (paired bootstrap)."
)


def write_report(facts: Facts, path: Path) -> Path:
    """Write the report of a run to `path` and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(facts), encoding="utf-8")
    return path


def page(facts: Facts) -> str:
    """The whole page. What comes from data is escaped; sections that have nothing to say are left out."""
    title = f"{facts.flow.replace('_', ' ').capitalize()}: {facts.chosen.label}"
    sections = [(name, body) for name, body in _sections(facts) if body]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(charts.STYLE.read_text(encoding="utf-8"))),
    )
    links = [tag("li", tag("a", name, href=f"#{_anchor(name)}")) for name, _ in sections]
    top = tag(
        "header",
        tag("p", f"{facts.flow} · {plain(facts.settings.get('usecase', {}).get('data'))}", class_="kind"),
        tag("h1", title),
        tag("p", verdict(facts), class_="verdict"),
        _tiles(facts),
        tag("nav", tag("ul", links), aria_label="Sections"),
    )
    main = tag("main", [tag("section", tag("h2", name), body, id=_anchor(name)) for name, body in sections])
    foot = tag("footer", tag("p", f"The run took {duration(facts.seconds)}. Every number was measured on the very graph that is served."))
    return f"<!doctype html>\n{tag('html', head, tag('body', top, main, foot), lang='en')}\n"


def _sections(facts: Facts) -> list[tuple[str, Markup | None]]:
    return [
        ("Candidates", _candidates(facts)),
        ("Use it", _next(facts)),
        ("What ran", _steps(facts)),
        ("Training", join([training.section(stage) for stage in facts.stages])),
        ("Quantisation", _recipes(facts)),
        ("Data", origins.data(facts)),
        (facts.figures.get("title", "A closer look"), _blocks(facts.figures.get("blocks", []))),
        ("Lineage", origins.lineage(facts)),
        ("Environment", origins.environment(facts)),
        ("Settings", origins.settings(facts)),
    ]


def _anchor(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def _blocks(listed: list[blocks.Block]) -> Markup | None:
    return tag("div", [blocks.draw(block) for block in listed], class_="grid two") if listed else None


# -- the outcome ---------------------------------------------------------------------------------------------------
def _tiles(facts: Facts) -> Markup:
    chosen, full = facts.chosen, facts.compared_with
    beside = full if full is not None and full.label != chosen.label else None
    tiles = [
        (
            f"{facts.monitor}, test",
            score(chosen.scores.get(facts.monitor)),
            beside and f"{beside.label}: {score(beside.scores.get(facts.monitor))}",
        ),
        (
            "Latency p50",
            f"{quantity(chosen.latency_ms.p50)} ms",
            beside and times(beside.latency_ms.p50 / chosen.latency_ms.p50, "faster", "slower"),
        ),
        ("Latency p95", f"{quantity(chosen.latency_ms.p95)} ms", beside and f"{beside.label}: {quantity(beside.latency_ms.p95)} ms"),
        ("Throughput", f"{quantity(chosen.throughput)}/s", beside and f"{beside.label}: {quantity(beside.throughput)}/s"),
        ("Size", f"{quantity(chosen.megabytes)} MB", beside and times(beside.megabytes / chosen.megabytes, "smaller", "larger")),
        ("Memory", f"{quantity(chosen.memory_megabytes)} MB", beside and f"{beside.label}: {quantity(beside.memory_megabytes)} MB"),
    ]
    return tag(
        "dl",
        [tag("div", tag("dt", name), tag("dd", value, tag("small", note) if note else None)) for name, value, note in tiles],
        class_="tiles",
    )


def _candidates(facts: Facts) -> Markup:
    columns = ["#", "Candidate, and why", f"{facts.monitor} on validation", "on test", *measures(facts)]
    reasons = [f"Chosen. {facts.reason}", *(rejection.reason for rejection in facts.rejected)]
    pairs = list(zip(facts.evaluations, reasons, strict=True))
    rows = [_candidate(number, evaluation, reason, facts) for number, (evaluation, reason) in enumerate(pairs, 1)]
    words = tag("p", _meant(facts), class_="muted")
    return join([blocks.table(columns, rows, "All candidates", marked=0), words, _planes(facts), _adapted(facts), _all_scores(facts)])


def _meant(facts: Facts) -> str:
    memory = "Memory is the peak that a fresh process needs to open the bundle and answer one request, beyond what it had before."
    noise = NOISE if any(e.gain or e.test_gain for e in facts.evaluations) else ""
    energy = "mJ is what the whole processor takes for one example." if "mJ" in measures(facts) else ""
    return " ".join(filter(None, (SPLITS, noise, memory, energy)))


def _candidate(number: int, evaluation: Evaluation, reason: str, facts: Facts) -> list[object]:
    words = tag("div", tag("strong", evaluation.label), tag("span", reason, class_="why"), class_="candidate")
    measured = [measure(evaluation) for measure in measures(facts).values()]
    scores = (evaluation.validation, evaluation.gain), (evaluation.scores, evaluation.test_gain)
    shown = [join([score(of.get(facts.monitor)), tag("span", interval(gain), class_="why")]) for of, gain in scores]
    return [tag("span", number, class_="number"), words, *shown, *measured]


def _adapted(facts: Facts) -> Markup | None:
    """What adapting to a part of the data gained there, and what of the rest was forgotten."""
    before = next((e for e in facts.evaluations if e.model.role == "before"), None)
    if before is None:
        return None
    base = facts.monitor.partition("/")[0]
    after = [e for e in facts.evaluations if e is not before]
    names = [name for name in before.scores if name == base or name.startswith(f"{base}/")]
    rows = [
        [name, score(before.scores[name]), *(_changed(e.scores.get(name), before.scores[name]) for e in after)]
        for name in sorted(names, key=lambda name: (name != facts.monitor, name != base, name))
    ]
    title = "What adapting gained, and what was forgotten"
    return join([tag("h3", title, class_="apart"), blocks.table(["Test split", before.label, *(e.label for e in after)], rows, title)])


def _changed(value: float | None, before: float) -> str:
    return score(value) if value is None else f"{score(value)} ({100 * (value - before):+.1f})".replace("-", "−")


def _all_scores(facts: Facts) -> Markup | None:
    names = list(dict.fromkeys(name for evaluation in facts.evaluations for name in evaluation.scores))
    if len(names) < 2:
        return None
    rows = [[e.label, *(score(e.scores.get(name)) for name in names)] for e in facts.evaluations]
    return join(
        [
            tag("h3", "Every score on the test split", class_="apart"),
            blocks.table(["Candidate", *names], rows, "Every score on the test split"),
        ]
    )


def _planes(facts: Facts) -> Markup:
    """Quality against what a request and what a copy costs, by the percentile that the budget limits where it limits one."""
    budget = facts.settings.get("budget", {})
    percentile = "p95" if budget.get("max_latency_ms") else "p50"
    latency = [getattr(e.latency_ms, percentile) for e in facts.evaluations]
    planes = [
        _plane(facts, "Quality and latency", latency, f"{percentile} latency, ms", budget.get("max_latency_ms")),
        _plane(facts, "Quality and size", [e.megabytes for e in facts.evaluations], "size, MB", budget.get("max_megabytes")),
    ]
    return tag("div", planes if budget.get("objective") != "size" else planes[::-1], _key(facts), class_="grid two")


def _plane(facts: Facts, title: str, costs: Sequence[float], label: str, limit: float | None) -> Markup:
    placed = [
        {"label": e.label, "x": cost, "y": e.validation[facts.monitor], "strong": e is facts.chosen}
        for e, cost in zip(facts.evaluations, costs, strict=True)
    ]
    quality = f"validation {facts.monitor}"
    name = f"{quality} against {label} of every candidate"
    return tag("article", tag("h3", title), plane.plane(placed, label, quality, name, _floor(facts), limit or None))


def _key(facts: Facts) -> Markup:
    if not facts.rejected:
        return tag("article", tag("p", _outside(facts), class_="muted"), class_="wide")
    words = "The filled disc was chosen. The line joins what no other candidate beats in both; the grey ones are beaten."
    names = [tag("li", tag("span", number, class_="number"), e.label) for number, e in enumerate(facts.evaluations, 1)]
    return tag("article", tag("p", f"{words} {_outside(facts)}", class_="muted"), tag("ol", names, class_="key-list"), class_="wide")


def _outside(facts: Facts) -> str:
    budget, floor = facts.settings.get("budget", {}), _floor(facts)
    parts = [f"validation {facts.monitor} below {floor:.4f}"] if floor is not None else []
    parts += [f"a p95 over {budget['max_latency_ms']:g} ms"] if budget.get("max_latency_ms") else []
    parts += [f"more than {budget['max_megabytes']:g} MB"] if budget.get("max_megabytes") else []
    return f"What the budget does not allow is shaded: {', '.join(parts)}." if parts else ""


def _floor(facts: Facts) -> float | None:
    """The lowest score on validation that is within the budget in any case."""
    budget, reference = facts.settings.get("budget"), facts.compared_with
    if budget is None or reference is None:
        return None
    best = reference.validation[facts.monitor]
    return best - Budget.model_validate(budget).allowed(best)


def _next(facts: Facts) -> Markup | None:
    if not facts.next_commands:
        return None
    where = tag("p", "The bundle is a folder that can be copied to another machine and served there: ", tag("code", facts.bundle))
    answer = join([tag("h3", "Its answer to the example request that is in the bundle", class_="apart"), _blocks(list(facts.answer))])
    return join([where, tag("pre", "\n".join(facts.next_commands)), answer if facts.answer else None])


# -- the run -------------------------------------------------------------------------------------------------------
def _steps(facts: Facts) -> Markup | None:
    if not facts.steps:
        return None
    drawn = [tag("div", dag.drawing(facts.steps, across), class_="across" if across else "tall") for across in (True, False)]
    rows = [[s.name, dag.took(s), ", ".join(s.needs), s.detail] for s in facts.steps]
    caption = tag(
        "p", "An arrow means that a result is used; dashed steps were served from the store, with nothing done again.", class_="muted"
    )
    return join([caption, *drawn, tag("p"), blocks.table(["Step", "Took", "Needs", "Outcome"], rows, "Steps")])


def _recipes(facts: Facts) -> Markup | None:
    if not facts.recipes:
        return None
    columns = list(dict.fromkeys(name for row in facts.recipes for name in row))
    rows = [[row.get(name) for name in columns] for row in facts.recipes]
    return blocks.table([name.replace("_", " ") for name in columns], rows, "Quantisation recipes tried")
