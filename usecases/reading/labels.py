"""Names of classes, as people give them."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contract.findings import Findings


def by_number(label: str) -> tuple[int, int, str]:
    """A key to sort by: numbers by their value, and before names."""
    return (0, int(label), label) if label.removeprefix("-").isdecimal() else (1, 0, label)


def note_similar_names(labels: Sequence[str], findings: Findings, kind: str) -> None:
    """Note the names that differ only in case, spaces and underscores as findings of this `kind`."""
    first: dict[str, str] = {}
    for label in labels:
        original = first.setdefault(" ".join(label.replace("_", " ").casefold().split()), label)
        if original != label:
            findings.note(kind, f"{original!r} and {label!r}")
