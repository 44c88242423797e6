"""Fit a network to a data set, in processes of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State, TaskRun

from tasks import store
from tasks.artifacts import Checkpoint, Dataset
from tasks.errors import Infrastructure, SettingError
from tasks.reporting.prefect_progress import progress_bar
from tasks.reporting.terminal import training_progress
from tasks.settings import Fit
from tasks.usecase import UseCase


async def _worth_another_try(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A lost process is; an error in code, data or memory would come again."""
    return isinstance(await state.aresult(raise_on_failure=False), Infrastructure)


training_task = task(persist_result=False, retries=2, retry_delay_seconds=2, retry_condition_fn=_worth_another_try)


@training_task
def pretrain(dataset: Dataset, fit: Fit) -> Checkpoint | None:
    """A backbone that has seen the data but no labels; None where the use case or `fit.epochs` says to skip it."""
    broad = dataset.usecase.pretraining()
    return fit_network("pretrain", broad, dataset, fit) if broad and fit.epochs else None


@training_task
def fine_tune(start: Checkpoint | None, dataset: Dataset, fit: Fit) -> Checkpoint:
    """The use case's network, started from a pretrained backbone where there is one.

    Raises:
        TrainingError: with the root cause of the rank that failed first.
    """
    if not fit.epochs:
        raise SettingError("--fit.epochs is 0: there would be nothing to release. Give at least 1.")
    return fit_network("fine_tune", dataset.usecase, dataset, fit, start)


def fit_network(name: str, usecase: UseCase, dataset: Dataset, fit: Fit, start: Checkpoint | None = None) -> Checkpoint:
    """Train in a supervised process, or find the same training in the store; a killed one resumes."""
    made_from = (dataset.digest, *([start.digest] if start else []))
    recipe = {
        "name": name,
        "usecase": usecase.settings(),
        "made_from": made_from,
        "fit": fit.model_dump(mode="json"),
        "code": store.code_version("tasks.training", usecase.package()),
    }

    def build(work: Path) -> dict[str, Any]:
        from tasks.training.launch import fit as run_training

        in_prefect = progress_bar(name)

        def show(row: dict[str, Any]) -> None:
            seen.update(row)
            in_prefect(row)

        outcome = run_training(usecase, dataset.folder, fit, work, start.folder if start else None, on_progress=show)
        told = {"scores", "seconds", "epochs", "precision", "precision_gap", "examples_per_second"}
        return {"usecase": usecase, "made_from": made_from, **outcome.model_dump(include=told)}

    with training_progress(name, needs=("prepare", "pretrain") if start else ("prepare",)) as seen:
        checkpoint, seen.cached = store.make(Checkpoint, recipe, build)
        seen.detail = f"{usecase.monitor} {checkpoint.scores[usecase.monitor]:.4f} on validation"
    return checkpoint
