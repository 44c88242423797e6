"""Training of networks, in separate processes."""

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
    """Whether to retry: a lost process is retried; an error in code, data or memory would occur again."""
    return isinstance(await state.aresult(raise_on_failure=False), Infrastructure)


training_task = task(persist_result=False, retries=2, retry_delay_seconds=2, retry_condition_fn=_worth_another_try)


@training_task
def pretrain(dataset: Dataset, fit: Fit) -> Checkpoint | None:
    """Pretrain the backbone without labels; None if the use case has no pretraining or `fit.epochs` is 0."""
    if fit.lora:
        raise SettingError(f"--pretraining.lora {fit.lora}: pretraining trains all weights. Use --fit.lora for fine-tuning.")
    usecase = dataset.usecase
    broad = usecase.pretraining() if isinstance(usecase, Pretrainable) else None
    return fit_network("pretrain", broad, dataset, fit) if broad and fit.epochs else None


@training_task
def fine_tune(start: Checkpoint | None, dataset: Dataset, fit: Fit) -> Checkpoint:
    """Train the network of the use case.

    Args:
        start: the pretrained backbone; None: start from random or pretrained weights of the use case.
        dataset: to train on.
        fit: how to train.

    Returns:
        The trained network.

    Raises:
        SettingError: `fit.epochs` is 0.
        TrainingError: the training failed; the message has the root cause of the first rank that failed.
    """
    if not fit.epochs:
        raise SettingError("--fit.epochs is 0, which would leave the network untrained. Set at least 1.")
    return fit_network("fine_tune", dataset.usecase, dataset, fit, start, LoRA(rank=fit.lora) if fit.lora else None)


@training_task
def adapt(checkpoint: Checkpoint, dataset: Dataset, adaptation: Adaptation) -> Checkpoint:
    """Fine-tune the trained network for the part of the data that the use case focuses on.

    Args:
        checkpoint: the trained network.
        dataset: to train on.
        adaptation: how to train.

    Returns:
        The adapted network; `checkpoint` itself if the use case has no focus or `adaptation.epochs` is 0.

    Raises:
        TrainingError: the training failed; the message has the root cause of the first rank that failed.
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
    """Train in a supervised process, resume an interrupted training, or find the result in the store.

    Args:
        name: of the step.
        usecase: whose network is trained.
        dataset: to train on.
        fit: how to train.
        start: checkpoint to start from; None: none.
        technique: how the training differs from a plain one, such as distillation; None: not at all.

    Returns:
        The trained network.

    Raises:
        TrainingError: the training failed; the message has the root cause of the first rank that failed.
    """

    def build(work: Path) -> dict[str, Any]:
        from tasks.training.launch import fit as run_training

        in_prefect = _prefect_bar(name)

        def show(row: dict[str, Any]) -> None:
            progress.update(row)
            in_prefect(row)

        outcome = run_training(usecase, dataset.folder, fit, work, start.folder if start else None, show, technique)
        fields = {"scores", "seconds", "epochs", "precision", "precision_gap", "examples_per_second"}
        return {"usecase": usecase, **outcome.model_dump(include=fields)}

    settings = {"usecase": usecase, "fit": fit, "technique": technique, "weights": usecase.weights_digest()}
    inputs = (dataset, *([start] if start else []), *(technique.inputs() if technique else ()))
    with training_progress(name) as progress:
        checkpoint, progress.cached = store.make(Checkpoint, settings, build, inputs, step=name)
        gain = technique.gain() if technique else ""
        progress.detail = "; ".join(filter(None, (f"{usecase.monitor} {checkpoint.scores[usecase.monitor]:.4f} on validation", gain)))
    return checkpoint


def _prefect_bar(name: str) -> Callable[[Row], None]:
    """A function that shows progress rows in an artifact of the running Prefect task; outside of a task it does nothing."""
    if TaskRunContext.get() is None:
        return lambda row: None
    artifact = cast(
        UUID, create_progress_artifact(progress=0.0, key=re.sub("[^a-z0-9]+", "-", name).strip("-"), description=f"{name}: starting")
    )
    updated = time.monotonic()

    def update(row: Row) -> None:
        nonlocal updated
        if "epoch" not in row or time.monotonic() - updated < UPDATE_SECONDS:
            return
        updated = time.monotonic()
        done = (row["epoch"] - 1 + row["step"] / row["steps"]) / row["epochs"]
        update_progress_artifact(artifact, progress=round(100 * done, 1), description=_description(name, row))

    return update


def _description(name: str, row: Row) -> str:
    scored = f", {row['monitor']} {row['score']:.4f} on validation" if row.get("score") is not None else ""
    return f"{name}: epoch {row['epoch']} of {row['epochs']}{scored}"
