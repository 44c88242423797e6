"""What needs no training: computed in seconds, and what a trained network must beat to be released."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from tasks import store
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.capabilities import HasBaselines
from tasks.contract.usecase import UseCase
from tasks.reporting.terminal import step


@task(persist_result=False)
def baselines(dataset: Dataset) -> dict[str, Checkpoint]:
    """The use case's baselines by name, each filled in from the training split and scored on validation."""
    usecase = dataset.usecase
    simple = usecase.baselines() if isinstance(usecase, HasBaselines) else {}
    with step("baselines") as seen:
        found: dict[str, Checkpoint] = {}
        for name, baseline in simple.items():
            seen.say(name)
            found[name], seen.cached = compute(name, baseline, dataset)
        monitor = usecase.monitor
        seen.detail = ", ".join(f"{name} {checkpoint.scores[monitor]:.4f}" for name, checkpoint in found.items())
    return found


def compute(name: str, usecase: UseCase, dataset: Dataset) -> tuple[Checkpoint, bool]:
    """The checkpoint of one baseline, and whether it was found in the store."""

    def build(work: Path) -> dict[str, Any]:
        from tasks.training.computed import compute

        return compute(usecase, dataset, work)

    return store.make(Checkpoint, {"usecase": usecase}, build, (dataset,), step=f"baselines {name}")
