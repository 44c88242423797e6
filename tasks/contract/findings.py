"""What is wrong with the data: counted, named, and past a tolerance a reason to stop before training."""

from __future__ import annotations

from typing import Any

from tasks.contract.errors import DataError

NAMED = 20  # of each kind, in the report
QUOTED = 3  # of each kind, in an error


class Findings:
    """Collects findings by kind, each with the action that was taken."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, Any]] = {}
        self.unusable = 0

    def note(self, kind: str, name: str, action: str = "reported", count: int = 1) -> None:
        found = self.kinds.setdefault(kind, {"kind": kind, "count": 0, "examples": [], "action": action})
        found["count"] += count
        if name and len(found["examples"]) < NAMED:
            found["examples"].append(name)

    def set_aside(self, kind: str, name: str, count: int = 1) -> None:
        self.unusable += count
        self.note(kind, name, "set aside", count)

    def include(self, other: Findings) -> None:
        """What was found elsewhere, too."""
        self.unusable += other.unusable
        for kind in other.kinds.values():
            self.note(kind["kind"], "", kind["action"], kind["count"])
            there = self.kinds[kind["kind"]]["examples"]
            there += kind["examples"][: NAMED - len(there)]

    def refuse_past(self, tolerance: float, total: int, what: str) -> None:
        """Raises `DataError` where more than a share `tolerance` of all of `what` is unusable."""
        if self.unusable <= tolerance * total:
            return
        kinds = [k for k in self.kinds.values() if k["action"] == "set aside"]
        quoted = "\n".join(f"  {k['kind']} ({k['count']}): {'; '.join(k['examples'][:QUOTED])}" for k in kinds)
        raise DataError(
            f"{self.unusable} of {total} {what} cannot be used ({self.unusable / total:.1%}); --usecase.tolerance allows {tolerance:.1%}.\n"
            f"{quoted}\nMend or remove them, or allow more."
        )

    def listed(self) -> list[dict[str, Any]]:
        return list(self.kinds.values())
