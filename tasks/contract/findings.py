"""Problems of the data: they are counted and named, and too many of them stop the run before training."""

from __future__ import annotations

from typing import Any

from tasks.contract.errors import DataError

NAMED = 20  # examples of each kind that the report names
QUOTED = 3  # examples of each kind that an error names


class Findings:
    """Collects findings by kind, each with the action that was taken."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, Any]] = {}
        self.unusable = 0

    def note(self, kind: str, name: str, action: str = "reported", count: int = 1) -> None:
        """Count a finding.

        Args:
            kind: what is wrong, such as "unreadable image"; findings of one kind are counted together.
            name: the example that has it, such as its file and line; empty: not named.
            action: what was done about it, such as "set aside".
            count: number of examples that have it.
        """
        found = self.kinds.setdefault(kind, {"kind": kind, "count": 0, "examples": [], "action": action})
        found["count"] += count
        if name and len(found["examples"]) < NAMED:
            found["examples"].append(name)

    def set_aside(self, kind: str, name: str, count: int = 1) -> None:
        """Count a finding that makes examples unusable.

        Args:
            kind: what is wrong.
            name: the example that has it.
            count: number of examples that have it.
        """
        self.unusable += count
        self.note(kind, name, "set aside", count)

    def include(self, other: Findings) -> None:
        """Add the findings of another collection."""
        self.unusable += other.unusable
        for kind in other.kinds.values():
            self.note(kind["kind"], "", kind["action"], kind["count"])
            examples = self.kinds[kind["kind"]]["examples"]
            examples += kind["examples"][: NAMED - len(examples)]

    def refuse_past(self, tolerance: float, total: int, what: str) -> None:
        """Stop the run if too much of the data is unusable.

        Args:
            tolerance: largest accepted share of unusable examples, in [0, 1].
            total: number of all examples.
            what: what the examples are called in the message, such as "images".

        Raises:
            DataError: more than the tolerance is unusable.
        """
        if self.unusable <= tolerance * total:
            return
        kinds = [k for k in self.kinds.values() if k["action"] == "set aside"]
        quoted = "\n".join(f"  {k['kind']} ({k['count']}): {'; '.join(k['examples'][:QUOTED])}" for k in kinds)
        raise DataError(
            f"{self.unusable} of {total} {what} cannot be used ({self.unusable / total:.1%}); --usecase.tolerance allows {tolerance:.1%}.\n"
            f"{quoted}\nFix or remove them, or raise --usecase.tolerance."
        )

    def listed(self) -> list[dict[str, Any]]:
        """The findings as rows of the data card."""
        return list(self.kinds.values())
