"""The report of a run: one HTML file that needs nothing beside itself, neither a host nor a script."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import Evaluation
from tasks.reporting import blocks, charts, dag, origins, training
from tasks.reporting.facts import Facts, verdict
from tasks.reporting.html import Markup, join, tag
from tasks.reporting.words import duration, plain, quantity, score, times


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
    chosen, full = facts.chosen, facts.full_precision
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
    ]
    return tag(
        "dl",
        [tag("div", tag("dt", name), tag("dd", value, tag("small", note) if note else None)) for name, value, note in tiles],
        class_="tiles",
    )


def _candidates(facts: Facts) -> Markup:
    columns = ["#", "Candidate, and why", facts.monitor, "p50 ms", "p95 ms", "items/s", "MB", "load s"]
    reasons = [f"Chosen. {facts.reason}", *(rejection.reason for rejection in facts.rejected)]
    pairs = list(zip(facts.evaluations, reasons, strict=True))
    rows = [_candidate(number, evaluation, reason, facts.monitor) for number, (evaluation, reason) in enumerate(pairs, 1)]
    pictures = tag("div", _plane(facts), _key(facts), class_="grid two")
    return join([blocks.table(columns, rows, "All candidates", marked=0), pictures, _adapted(facts), _all_scores(facts)])


def _candidate(number: int, evaluation: Evaluation, reason: str, monitor: str) -> list[object]:
    latency = evaluation.latency_ms
    measured = [latency.p50, latency.p95, evaluation.throughput, evaluation.megabytes, evaluation.load_seconds]
    words = tag("div", tag("strong", evaluation.label), tag("span", reason, class_="why"), class_="candidate")
    return [tag("span", number, class_="number"), words, score(evaluation.scores.get(monitor)), *(quantity(value) for value in measured)]


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


def _plane(facts: Facts) -> Markup:
    points = [
        {"label": e.label, "x": e.latency_ms.p50, "y": e.scores[facts.monitor], "size": e.megabytes, "strong": e is facts.chosen}
        for e in facts.evaluations
    ]
    name = f"{facts.monitor} against latency of every candidate"
    return tag(
        "article", tag("h3", "Quality, latency, size"), charts.scatter(points, "p50 latency, ms", facts.monitor, name, _floor(facts))
    )


def _key(facts: Facts) -> Markup:
    floor = _floor(facts)
    words = ["The area of a disc is the size of the model; the filled one was chosen."]
    words += [f"Below the dashed line, {floor:.4f}, more {facts.monitor} is lost than the budget allows."] if floor is not None else []
    names = [tag("li", tag("span", number, class_="number"), e.label) for number, e in enumerate(facts.evaluations, 1)]
    return tag("article", tag("h3", "The discs"), tag("ol", names, class_="key-list"), tag("p", " ".join(words), class_="muted"))


def _floor(facts: Facts) -> float | None:
    allowed, full = facts.settings.get("budget", {}).get("max_loss"), facts.full_precision
    return None if allowed is None or full is None else full.scores[facts.monitor] - allowed


def _next(facts: Facts) -> Markup | None:
    if not facts.next_commands:
        return None
    where = tag("p", "The bundle is a folder that can be copied to another machine and served there: ", tag("code", facts.bundle))
    return join([where, tag("pre", "\n".join(facts.next_commands))])


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
