"""The sections of the report on the origin of a model: data, lineage, environment, settings."""

from __future__ import annotations

from typing import Any

from tasks.reporting import blocks
from tasks.reporting.facts import Facts
from tasks.reporting.formatting import duration, plain
from tasks.reporting.html import Markup, join, tag

CLASSES_SHOWN = 20


def data(facts: Facts) -> Markup:
    """Splits, class counts and findings of the data check."""
    card = facts.card
    sizes = [{"label": split, "value": size} for split, size in card.get("sizes", {}).items()]
    labels = card.get("labels", [])
    words = f"Layout: {plain(card.get('layout'))}." + (f" {plain(len(labels))} classes." if labels else "")
    parts = [tag("article", tag("h3", "Splits"), blocks.bars(sizes))]
    parts += (
        [tag("article", tag("h3", "Classes in the training split"), _classes(card["counts"]["train"]))]
        if card.get("counts", {}).get("train")
        else []
    )
    if card.get("facts"):
        rows = [[name, value] for name, value in card["facts"].items()]
        parts += [tag("article", tag("h3", "Statistics"), blocks.table(["Statistic", "Value"], rows, "Statistics of the data"))]
    parts += [tag("article", tag("h3", "Findings of the data check"), _findings(card.get("findings", [])), class_="wide")]
    return join([tag("p", words), tag("div", parts, class_="grid two")])


def _classes(counts: dict[str, int]) -> Markup:
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    items: list[dict[str, Any]] = [{"label": label, "value": count} for label, count in ranked]
    if len(items) <= CLASSES_SHOWN:
        return blocks.bars(items)
    half = CLASSES_SHOWN // 2
    between = {"label": f"… {len(items) - 2 * half:,} classes between the largest and the smallest …"}
    return blocks.bars([*items[:half], between, *items[-half:]])


def _findings(findings: list[dict[str, Any]]) -> Markup:
    if not findings:
        return tag("p", "No findings: every example could be used unchanged.")
    rows = [[f["kind"], f["count"], f["action"], tag("div", ", ".join(f["examples"]), class_="why")] for f in findings]
    return blocks.table(["Finding", "Count", "Action", "Examples"], rows, "Findings of the data check")


def lineage(facts: Facts) -> Markup | None:
    """The artifacts from the bundle back to the data; None if there are no manifests."""
    if not facts.lineage:
        return None
    rows = [_ancestor(manifest) for manifest in facts.lineage]
    words = "The artifacts from the bundle back to the data. A digest is the SHA-256 of the content; the folder of an artifact in the store is named by its first 16 characters."
    return join([tag("p", words, class_="muted"), blocks.table(["Kind", "Digest", "Made from", "Created", "Duration"], rows, "Lineage")])


def _ancestor(manifest: dict[str, Any]) -> list[object]:
    parents = ", ".join(digest[:8] for digest in manifest["made_from"])
    data = manifest["settings"].get("data")
    source = parents or (f"data {str(data)[:8]}" if data else "–")
    return [manifest["kind"], tag("code", manifest["digest"][:16]), tag("code", source), manifest["made"], duration(manifest["seconds"])]


def environment(facts: Facts) -> Markup:
    """The machine on which the chosen model was made and measured, and the versions of the libraries."""
    newest: dict[str, Any] = facts.lineage[0] if facts.lineage else {}
    known = {"CPU": facts.chosen.cpu, "threads": facts.chosen.threads, "host": newest.get("host"), "Python": newest.get("python")}
    rows = [[name, value] for name, value in {**known, **newest.get("libraries", {})}.items() if value is not None]
    return blocks.table(["Property", "Value"], rows, "Environment")


def settings(facts: Facts) -> Markup | None:
    """All settings by parameter of the flow."""
    groups = [
        tag("details", tag("summary", name), blocks.table(["Setting", "Value"], [[key, value] for key, value in group.items()], name))
        for name, group in facts.settings.items()
    ]
    return join(groups) if groups else None
