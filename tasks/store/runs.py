"""The runs of a store: what each released, with which settings, so that they can be listed and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks.contract.artifacts import Release, home
from tasks.contract.errors import BundleError
from tasks.contract.records import Record
from tasks.store.digests import write_whole

FOLDER = "runs"


class Run(Record):
    """One finished run of a flow."""

    id: str = Field(description="vertical and time; the report has the same name")
    started: datetime
    settings: dict[str, Any] = Field(description="by section: the use case, each training and the budget")
    release: Release

    @property
    def data(self) -> str:
        """What the run was given as data."""
        return str(self.settings.get("usecase", {}).get("data", ""))


def write_run(run: Run) -> Path:
    """Keep a run below `<home>/runs/` and return the file."""
    path = home() / FOLDER / f"{run.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, run.model_dump_json(indent=1))
    return path


def all_runs() -> Iterator[Run]:
    """Every run of the store that can still be read, the newest first."""
    for path in sorted((home() / FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            yield Run.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, BundleError):  # of another version of the project
            continue


def find_run(name: str) -> Run:
    """The run whose id begins with `name`; `last` is the newest, `last-1` the one before it.

    Raises:
        BundleError: no run or several runs have that name; the message says where to find the names.
    """
    runs = list(all_runs())
    back = re.fullmatch(r"last(?:-(\d+))?", name)
    if back:
        found = runs[int(back[1] or 0) :][:1]
    else:
        found = [run for run in runs if run.id == name] or [run for run in runs if run.id.startswith(name)]
    if len(found) != 1:
        listed = f"{len(found)} of the {len(runs)} runs in {home()} are called {name!r}"
        raise BundleError(f"{listed}; one was expected. `verticals runs` lists them; `last` is the newest.")
    return found[0]
