"""Baselines that need no training: computed in seconds, and candidates for the release like trained networks."""

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
    """The baselines of the use case by name, each fitted on the training split and scored on the validation split."""
    usecase = dataset.usecase
    simple = usecase.baselines() if isinstance(usecase, HasBaselines) else {}
    with step("baselines") as progress:
        found: dict[str, Checkpoint] = {}
        for name, baseline in simple.items():
            progress.say(name)
            found[name], progress.cached = compute(name, baseline, dataset)
        monitor = usecase.monitor
        progress.detail = ", ".join(f"{name} {checkpoint.scores[monitor]:.4f}" for name, checkpoint in found.items())
    return found


def compute(name: str, usecase: UseCase, dataset: Dataset) -> tuple[Checkpoint, bool]:
    """Fit and score a baseline, or find it in the store.

    Args:
        name: of the baseline.
        usecase: of the baseline.
        dataset: to fit it on.

    Returns:
        The checkpoint, and whether it was found in the store.
    """

    def build(work: Path) -> dict[str, Any]:
        from tasks.training.computed import compute

        return compute(usecase, dataset, work)

    return store.make(Checkpoint, {"usecase": usecase}, build, (dataset,), step=f"baselines {name}")
