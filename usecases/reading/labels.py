"""The order of class names, and names that are probably the same class."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contract.findings import Findings


def by_number(label: str) -> tuple[int, int, str]:
    """Sort key for class names: numbers by value, then names."""
    return (0, int(label), label) if label.removeprefix("-").isdecimal() else (1, 0, label)


def note_similar_names(labels: Sequence[str], findings: Findings, kind: str) -> None:
    """Note names that differ only in case, spaces and underscores.

    Args:
        labels: names of the classes.
        findings: where each pair of similar names is noted.
        kind: the kind of these findings.
    """
    first: dict[str, str] = {}
    for label in labels:
        original = first.setdefault(" ".join(label.replace("_", " ").casefold().split()), label)
        if original != label:
            findings.note(kind, f"{original!r} and {label!r}")
