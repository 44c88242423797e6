"""The report of a run: one self-contained HTML file without scripts or external resources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.contract.artifacts import Evaluation
from tasks.reporting import blocks, charts, dag, origins, pareto, training
from tasks.reporting.facts import Facts, measures, verdict
from tasks.reporting.formatting import duration, interval, plain, quantity, score, times
from tasks.reporting.html import Markup, join, tag
from tasks.settings import Budget

SPLITS = "The candidate is chosen on the validation split; scores on the test split are only reported."
NOISE = "Below each score is the 95 % interval of its difference from the reference, the best candidate on validation that was not compressed (paired bootstrap)."


def write_report(facts: Facts, path: Path) -> Path:
    """Write the report of a run to `path`, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(facts), encoding="utf-8")
    return path


def page(facts: Facts) -> str:
    """The report as HTML. Text from data is escaped; empty sections are left out."""
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
    foot = tag(
        "footer",
        tag("p", f"The run took {duration(facts.seconds)}. All scores and measurements are those of the exported graph that is served."),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', top, main, foot), lang='en')}\n"


def _sections(facts: Facts) -> list[tuple[str, Markup | None]]:
    return [
        ("Candidates", _candidates(facts)),
        ("Use it", _next(facts)),
        ("Steps", _steps(facts)),
        ("Training", join([training.section(stage) for stage in facts.stages])),
        ("Quantisation", _recipes(facts)),
        ("Data", origins.data(facts)),
        (facts.figures.get("title", "Details"), _blocks(facts.figures.get("blocks", []))),
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
    chosen, compared = facts.chosen, facts.compared_with
    reference = compared if compared is not None and compared.label != chosen.label else None
    tiles = [
        (
            f"{facts.monitor}, test",
            score(chosen.scores.get(facts.monitor)),
            reference and f"{reference.label}: {score(reference.scores.get(facts.monitor))}",
        ),
        (
            "Latency p50",
            f"{quantity(chosen.latency_ms.p50)} ms",
            reference and times(reference.latency_ms.p50 / chosen.latency_ms.p50, "faster", "slower"),
        ),
        (
            "Latency p95",
            f"{quantity(chosen.latency_ms.p95)} ms",
            reference and f"{reference.label}: {quantity(reference.latency_ms.p95)} ms",
        ),
        ("Throughput", f"{quantity(chosen.throughput)}/s", reference and f"{reference.label}: {quantity(reference.throughput)}/s"),
        ("Size", f"{quantity(chosen.megabytes)} MB", reference and times(reference.megabytes / chosen.megabytes, "smaller", "larger")),
        (
            "Memory",
            f"{quantity(chosen.memory_megabytes)} MB",
            reference and f"{reference.label}: {quantity(reference.memory_megabytes)} MB",
        ),
    ]
    return tag(
        "dl",
        [tag("div", tag("dt", name), tag("dd", value, tag("small", note) if note else None)) for name, value, note in tiles],
        class_="tiles",
    )


def _candidates(facts: Facts) -> Markup:
    columns = ["#", "Candidate and reason", f"{facts.monitor} on validation", "on test", *measures(facts)]
    reasons = [f"Chosen. {facts.reason}", *(rejection.reason for rejection in facts.rejected)]
    pairs = list(zip(facts.evaluations, reasons, strict=True))
    rows = [_candidate(number, evaluation, reason, facts) for number, (evaluation, reason) in enumerate(pairs, 1)]
    words = tag("p", _explained_columns(facts), class_="muted")
    return join([blocks.table(columns, rows, "All candidates", marked=0), words, _planes(facts), _adapted(facts), _all_scores(facts)])


def _explained_columns(facts: Facts) -> str:
    memory = "Memory is the additional peak memory of a new process that opens the bundle and answers one request."
    noise = NOISE if any(e.gain or e.test_gain for e in facts.evaluations) else ""
    energy = "mJ is the energy that the whole processor uses per example." if "mJ" in measures(facts) else ""
    return " ".join(filter(None, (SPLITS, noise, memory, energy)))


def _candidate(number: int, evaluation: Evaluation, reason: str, facts: Facts) -> list[object]:
    words = tag("div", tag("strong", evaluation.label), tag("span", reason, class_="why"), class_="candidate")
    measured = [measure(evaluation) for measure in measures(facts).values()]
    scores = (evaluation.validation, evaluation.gain), (evaluation.scores, evaluation.test_gain)
    shown = [join([score(of.get(facts.monitor)), tag("span", interval(gain), class_="why")]) for of, gain in scores]
    return [tag("span", number, class_="number"), words, *shown, *measured]


def _adapted(facts: Facts) -> Markup | None:
    """Scores before and after the adaptation, on the part it is for and on the rest."""
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
    title = "Effect of the adaptation"
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
            tag("h3", "All scores on the test split", class_="apart"),
            blocks.table(["Candidate", *names], rows, "All scores on the test split"),
        ]
    )


def _planes(facts: Facts) -> Markup:
    """Plots of quality against latency and against size. The latency is the p95 if the budget limits it, otherwise the p50."""
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
    return tag("article", tag("h3", title), pareto.pareto_plot(placed, label, quality, name, _floor(facts), limit or None))


def _key(facts: Facts) -> Markup:
    if not facts.rejected:
        return tag("article", tag("p", _outside(facts), class_="muted"), class_="wide")
    words = "The filled disc is the chosen candidate. The line is the Pareto front; grey candidates are dominated by others."
    names = [tag("li", tag("span", number, class_="number"), e.label) for number, e in enumerate(facts.evaluations, 1)]
    return tag("article", tag("p", f"{words} {_outside(facts)}", class_="muted"), tag("ol", names, class_="key-list"), class_="wide")


def _outside(facts: Facts) -> str:
    budget, floor = facts.settings.get("budget", {}), _floor(facts)
    parts = [f"validation {facts.monitor} below {floor:.4f}"] if floor is not None else []
    parts += [f"a p95 over {budget['max_latency_ms']:g} ms"] if budget.get("max_latency_ms") else []
    parts += [f"more than {budget['max_megabytes']:g} MB"] if budget.get("max_megabytes") else []
    return f"The shaded area is outside the budget: {', '.join(parts)}." if parts else ""


def _floor(facts: Facts) -> float | None:
    """The lowest score on validation that is within the budget regardless of its interval."""
    budget, reference = facts.settings.get("budget"), facts.compared_with
    if budget is None or reference is None:
        return None
    best = reference.validation[facts.monitor]
    return best - Budget.model_validate(budget).allowed(best)


def _next(facts: Facts) -> Markup | None:
    if not facts.next_commands:
        return None
    where = tag("p", "The bundle, a folder that can be copied to another machine and served there: ", tag("code", facts.bundle))
    answer = join([tag("h3", "Answer to the example request of the bundle", class_="apart"), _blocks(list(facts.answer))])
    return join([where, tag("pre", "\n".join(facts.next_commands)), answer if facts.answer else None])


# -- the run -------------------------------------------------------------------------------------------------------
def _steps(facts: Facts) -> Markup | None:
    if not facts.steps:
        return None
    drawn = [tag("div", dag.drawing(facts.steps, across), class_="across" if across else "tall") for across in (True, False)]
    rows = [[s.name, dag.took(s), ", ".join(s.needs), s.detail] for s in facts.steps]
    caption = tag(
        "p",
        "An arrow points to a step that uses the result. Results of dashed steps were found in the store and not computed again.",
        class_="muted",
    )
    return join([caption, *drawn, tag("p"), blocks.table(["Step", "Duration", "Needs", "Result"], rows, "Steps")])


def _recipes(facts: Facts) -> Markup | None:
    if not facts.recipes:
        return None
    columns = list(dict.fromkeys(name for row in facts.recipes for name in row))
    rows = [[row.get(name) for name in columns] for row in facts.recipes]
    return blocks.table([name.replace("_", " ") for name in columns], rows, "Quantisation recipes that were tried")
