"""Measure the exported graphs, which are those that are served."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from pydantic import Field

from tasks import store
from tasks.contract.artifacts import Dataset, Evaluation, OnnxModel
from tasks.contract.records import Record
from tasks.evaluation.measure import evaluate as measure
from tasks.reporting.terminal import step


class Evaluations(Record):
    """Evaluations that were made in one run, so that they can be compared."""

    each: tuple[Evaluation, ...] = Field(description="in the order of the candidates")


@task(persist_result=False)
def evaluate(models: Sequence[OnnxModel], dataset: Dataset) -> list[Evaluation]:
    """Measure scores on validation and test, latency, throughput, size, memory, energy and load time of each candidate on this machine."""

    def measured() -> Evaluations:
        return Evaluations(each=tuple(measure(models, dataset, progress.say)))

    labels = [model.label for model in models]
    with step("evaluate") as progress:
        found, progress.cached = store.remember(
            Evaluations, {"labels": labels}, measured, (*models, dataset), step="evaluate", machine=True
        )
        progress.uses.give(*found.each)
        progress.detail = f"{len(models)} candidates"
    return list(found.each)
