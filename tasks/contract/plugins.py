"""Use cases of installed packages, found by the entry points in the group `verticals.usecases`; the project's own are among them."""

from __future__ import annotations

import functools
import importlib.metadata
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

GROUP = "verticals.usecases"
OURS = frozenset({"usecases", "tasks"})
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@functools.cache
def entry_points() -> dict[str, EntryPoint]:
    """By name, the entry points of every use case; those of a checkout that is not installed are read from its pyproject.toml."""
    found = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    if PYPROJECT.is_file():
        own = tomllib.loads(PYPROJECT.read_text(encoding="utf-8")).get("project", {}).get("entry-points", {}).get(GROUP, {})
        found |= {name: EntryPoint(name, value, GROUP) for name, value in own.items()}
    return found


def trusted_packages(asked: str) -> frozenset[str]:
    """The top-level packages whose records are read, ours and those of entry points; installed packages are looked at only where `asked` is not ours."""
    return OURS if asked in OURS else OURS | {point.module.partition(".")[0] for point in entry_points().values()}
