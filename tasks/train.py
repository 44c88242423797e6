"""Fit a network to a data set, in processes of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from tasks import store
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.capabilities import Adaptable, Pretrainable
from tasks.contract.errors import Infrastructure, SettingError
from tasks.contract.usecase import UseCase
from tasks.reporting.terminal import training_progress
from tasks.settings import Adaptation, Fit
from tasks.training.lora import LoRA
from tasks.training.rehearsal import Rehearsal
from tasks.training.technique import Technique

Row = Mapping[str, Any]
UPDATE_SECONDS = 3.0


async def _worth_another_try(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A lost process is; an error in code, data or memory would come again."""
    return isinstance(await state.aresult(raise_on_failure=False), Infrastructure)


training_task = task(persist_result=False, retries=2, retry_delay_seconds=2, retry_condition_fn=_worth_another_try)


@training_task
def pretrain(dataset: Dataset, fit: Fit) -> Checkpoint | None:
    """A backbone that has seen the data but no labels; None where the use case or `fit.epochs` says to skip it."""
    if fit.lora:
        raise SettingError(f"--pretraining.lora {fit.lora}: pretraining learns all weights. Give --fit.lora, which is of fine-tuning.")
    usecase = dataset.usecase
    broad = usecase.pretraining() if isinstance(usecase, Pretrainable) else None
    return fit_network("pretrain", broad, dataset, fit) if broad and fit.epochs else None


@training_task
def fine_tune(start: Checkpoint | None, dataset: Dataset, fit: Fit) -> Checkpoint:
    """The use case's network, started from a pretrained backbone where there is one.

    Raises:
        TrainingError: with the root cause of the rank that failed first.
    """
    if not fit.epochs:
        raise SettingError("--fit.epochs is 0: there would be nothing to release. Give at least 1.")
    return fit_network("fine_tune", dataset.usecase, dataset, fit, start, LoRA(rank=fit.lora) if fit.lora else None)


@training_task
def adapt(checkpoint: Checkpoint, dataset: Dataset, adaptation: Adaptation) -> Checkpoint:
    """The trained network, fine-tuned for the part of the data that the use case names; as it is where it names none.

    Raises:
        TrainingError: with the root cause of the rank that failed first.
    """
    usecase = dataset.usecase
    if not adaptation.epochs or not isinstance(usecase, Adaptable) or usecase.focus(dataset.folder) is None:
        return checkpoint
    technique = Rehearsal(trained=checkpoint, share=adaptation.rehearsal)
    return fit_network("adapt", dataset.usecase, dataset, adaptation, technique=technique)


def fit_network(
    name: str,
    usecase: UseCase,
    dataset: Dataset,
    fit: Fit,
    start: Checkpoint | None = None,
    technique: Technique | None = None,
) -> Checkpoint:
    """Train in a supervised process, or find the same training in the store; a killed one resumes."""

    def build(work: Path) -> dict[str, Any]:
        from tasks.training.launch import fit as run_training

        in_prefect = _prefect_bar(name)

        def show(row: dict[str, Any]) -> None:
            seen.update(row)
            in_prefect(row)

        outcome = run_training(usecase, dataset.folder, fit, work, start.folder if start else None, show, technique)
        told = {"scores", "seconds", "epochs", "precision", "precision_gap", "examples_per_second"}
        return {"usecase": usecase, **outcome.model_dump(include=told)}

    settings = {"usecase": usecase, "fit": fit, "technique": technique, "weights": usecase.weights_digest()}
    inputs = (dataset, *([start] if start else []), *(technique.inputs() if technique else ()))
    with training_progress(name) as seen:
        checkpoint, seen.cached = store.make(Checkpoint, settings, build, inputs, step=name)
        gain = technique.gain() if technique else ""
        seen.detail = "; ".join(filter(None, (f"{usecase.monitor} {checkpoint.scores[usecase.monitor]:.4f} on validation", gain)))
    return checkpoint


def _prefect_bar(name: str) -> Callable[[Row], None]:
    """Takes a training's progress rows to a progress artifact of the running task; outside of a task to nothing."""
    if TaskRunContext.get() is None:
        return lambda row: None
    artifact = cast(
        UUID, create_progress_artifact(progress=0.0, key=re.sub("[^a-z0-9]+", "-", name).strip("-"), description=f"{name}: starting")
    )
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
