"""Use cases of installed packages, found by the entry points in the group `verticals.usecases`; the project's own are among them."""

from __future__ import annotations

import functools
import importlib.metadata
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

from tasks.contract.errors import ContractError

GROUP = "verticals.usecases"
OURS = frozenset({"usecases", "tasks"})
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@functools.cache
def entry_points() -> dict[str, EntryPoint]:
    """The entry points of all use cases by name; those of a checkout that is not installed are read from its pyproject.toml.

    Raises:
        ContractError: two packages declare the same name for different classes.
    """
    found: dict[str, EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ContractError(
                f"Two installed packages have a use case {point.name!r} in {GROUP}: {other.value} and {point.value}. Uninstall or rename one."
            )
    if PYPROJECT.is_file():
        own = tomllib.loads(PYPROJECT.read_text(encoding="utf-8")).get("project", {}).get("entry-points", {}).get(GROUP, {})
        found |= {name: EntryPoint(name, value, GROUP) for name, value in own.items()}
    return found


def vertical_of(usecase: object) -> str:
    """The name of a use case's entry point, or of its nearest base class that has one, as people type it; empty: none has."""
    names = {point.value: name for name, point in entry_points().items()}
    kinds = (f"{kind.__module__}:{kind.__qualname__}" for kind in type(usecase).__mro__)
    return next((names[kind].replace("_", "-") for kind in kinds if kind in names), "")


def trusted_packages(asked: str) -> frozenset[str]:
    """The top-level packages whose records may be read: the project's own, and those that declare a use case as an entry point.

    Installed packages are searched only if `asked`, the package of the record to be read, is not the project's own.
    """
    return OURS if asked in OURS else OURS | {point.module.partition(".")[0] for point in entry_points().values()}
