"""Measure the very graphs that would be served."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from pydantic import Field

from tasks import store
from tasks.contract.artifacts import Dataset, Evaluation, OnnxModel
from tasks.contract.records import Record
from tasks.evaluation.measure import evaluate as measure
from tasks.machine import cpu
from tasks.reporting.terminal import step, steps_of


class Evaluations(Record):
    """Measured together, so that they can be compared."""

    each: tuple[Evaluation, ...] = Field(description="in the order of the candidates")


@task(persist_result=False)
def evaluate(models: Sequence[OnnxModel], dataset: Dataset) -> list[Evaluation]:
    """Quality on the test split, latency, throughput, size, memory, energy and load time of each candidate, on this machine."""
    recipe = {
        "models": [(model.label, model.digest) for model in models],
        "data": dataset.digest,
        "cpu": cpu(),
        "code": store.code_version("tasks.evaluation", "tasks.serving", dataset.usecase.package()),
    }
    with step("evaluate", needs=("prepare", *steps_of("export", "quantize"))) as seen:
        found, seen.cached = store.remember(Evaluations, recipe, lambda: Evaluations(each=tuple(measure(models, dataset, seen.say))))
        seen.detail = f"{len(models)} candidates"
    return list(found.each)
