"""The results of a run as Markdown, for artifacts in Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.contract.artifacts import Interval
from tasks.reporting import charts, dag, training
from tasks.reporting.facts import Facts, Stage, Step, measures, verdict
from tasks.reporting.formatting import duration, interval, plain, score


def artifacts(facts: Facts) -> dict[str, str]:
    """All texts, by names that are valid as keys of artifacts."""
    return {
        "summary": summary_text(facts),
        "data": data_text(facts.card),
        "training": training_text(facts.stages),
        "steps": steps_text(facts.steps),
        "lineage": lineage_text(facts.lineage),
    }


def summary_text(facts: Facts) -> str:
    """The verdict and a table of all candidates, the chosen one first.

    The 95 % interval of the difference from the reference is in brackets after each score.
    """
    measured = measures(facts)
    columns = ["", "candidate", f"{facts.monitor} on validation (decides)", "on test (reported)", *measured, "reason"]
    reasons = [facts.reason, *(rejection.reason for rejection in facts.rejected)]
    rows = [
        [
            "✓" if number == 0 else "",
            e.label,
            _with_interval(e.validation.get(facts.monitor), e.gain),
            _with_interval(e.scores.get(facts.monitor), e.test_gain),
            *(measure(e) for measure in measured.values()),
            reason,
        ]
        for number, (e, reason) in enumerate(zip(facts.evaluations, reasons, strict=True))
    ]
    return f"{_escaped(verdict(facts))}\n\n{_table(columns, rows)}\n"


def _with_interval(value: float | None, gain: Interval | None) -> str:
    return f"{score(value)} ({interval(gain)})" if gain else score(value)


def data_text(card: dict[str, Any]) -> str:
    """The findings of the data check, the splits, and the largest and smallest class."""
    sizes = _table(["split", "examples"], [[split, size] for split, size in card.get("sizes", {}).items()])
    found = [[f["kind"], f["count"], f["action"], ", ".join(f["examples"])] for f in card.get("findings", [])]
    findings = _table(["finding", "count", "action", "examples"], found) if found else "No findings: every example could be used unchanged."
    return f"Layout: {_escaped(plain(card.get('layout')))}. {_extremes(card)}\n\n{sizes}\n\n{findings}\n"


def training_text(stages: Sequence[Stage]) -> str:
    """A description and the curves of each training; curves are embedded images."""
    parts = [f"### {stage.name}\n\n{_escaped(training.description(stage))}\n\n{_pictures(stage)}\n" for stage in stages]
    return "\n".join(parts) or "Nothing was trained.\n"


def steps_text(steps: Sequence[Step]) -> str:
    """The steps as a Mermaid graph; dashed steps were found in the store."""
    order = {step.name: number for number, step in enumerate(steps)}
    nodes = [f'  s{order[step.name]}["{_in_mermaid(step.name)}<br/>{dag.took(step)}"]' for step in steps]
    arrows = [f"  s{order[start]} --> s{order[end]}" for start, end in dag.edges(steps)]
    dashed = [f"  style s{order[step.name]} stroke-dasharray: 5 4" for step in steps if step.cached]
    return "\n".join(["```mermaid", "graph LR", *nodes, *arrows, *dashed, "```", ""])


def lineage_text(manifests: Sequence[dict[str, Any]]) -> str:
    """The artifacts from the bundle back to the data."""
    rows = [
        [m["kind"], f"`{m['digest'][:16]}`", ", ".join(f"`{d[:8]}`" for d in m["made_from"]), m["made"], duration(m["seconds"])]
        for m in manifests
    ]
    return _table(["kind", "digest", "made from", "created", "duration"], rows) + "\n"


def _pictures(stage: Stage) -> str:
    return "\n".join(f"![curve of {stage.name}]({charts.data_uri(curve)})" for curve in training.curves(stage) if "<svg" in curve)


def _extremes(card: dict[str, Any]) -> str:
    counts: dict[str, int] = card.get("counts", {}).get("train", {})
    if not counts:
        return ""
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    extremes = f"{len(counts)} classes; in training the largest is {most} ({counts[most]:,}), the smallest {least} ({counts[least]:,})."
    return _escaped(extremes)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_escaped(plain(cell)) if cell != "" else "" for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Escape characters that have a meaning in Markdown or HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;").replace("[", "&#91;")
    return " ".join(text.split())


def _in_mermaid(text: str) -> str:
    return text.replace('"', "#quot;").replace("<", "#lt;")
