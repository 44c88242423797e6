"""Training as Prefect shows it: a progress bar that moves while it lasts, and its curves when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext

UPDATE_SECONDS = 3.0

Row = Mapping[str, Any]


def progress_bar(name: str) -> Callable[[Row], None]:
    """Takes a training's progress rows to a progress artifact of the running task; outside of a task to nothing."""
    if TaskRunContext.get() is None:
        return lambda row: None
    artifact = cast(UUID, create_progress_artifact(progress=0.0, key=name.replace("_", "-"), description=f"{name}: starting"))
    told = time.monotonic()

    def update(row: Row) -> None:
        nonlocal told
        if "epoch" not in row or time.monotonic() - told < UPDATE_SECONDS:
            return
        told = time.monotonic()
        done = (row["epoch"] - 1 + row["step"] / row["steps"]) / row["epochs"]
        update_progress_artifact(artifact, progress=round(100 * done, 1), description=_in_words(name, row))

    return update


def _in_words(name: str, row: Row) -> str:
    scored = f", {row['monitor']} {row['score']:.4f} on validation" if row.get("score") is not None else ""
    return f"{name}: epoch {row['epoch']} of {row['epochs']}{scored}"
