"""The results of a run in one record, from which the report, the terminal and the artifacts in Prefect are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field

from tasks.contract.artifacts import Evaluation, Rejection
from tasks.contract.records import Record
from tasks.reporting.formatting import interval, quantity, score, times


class Step(Record):
    """A step of the flow that has run."""

    name: str
    seconds: float
    cached: bool = Field(default=False, description="served from the store")
    needs: tuple[str, ...] = Field(default=(), description="names of the steps whose results it used")
    detail: str = ""


class Stage(Record):
    """One training: pretraining, fine-tuning, distillation."""

    name: str
    monitor: str = Field(description="name of the validation score")
    history: tuple[dict[str, Any], ...] = Field(description="one row per epoch: epoch, and numbers by name")
    seconds: float
    scores: dict[str, float] = Field(description="on the validation split, with the weights that were kept")
    precision: str = Field(default="", description="numerical precision of the training, such as bf16-mixed")
    precision_gap: float = Field(default=0.0, description="monitored score in that precision minus the score in fp32")
    examples_per_second: float = 0.0


class Facts(Record):
    """Everything that the report shows.

    `figures["blocks"]` and `answer` are blocks of `tasks.contract.blocks`, which can be drawn for any use case.
    """

    flow: str
    settings: dict[str, dict[str, Any]] = Field(description="by parameter of the flow: usecase, fit, budget, ...")
    card: dict[str, Any] = Field(description="of the data set, see `tasks.contract.artifacts.Dataset`")
    chosen: Evaluation
    reason: str
    rejected: tuple[Rejection, ...] = ()
    reference: str = Field(default="fp32", description="label of the candidate with which quality is compared")
    seconds: float = Field(description="wall time of the whole run")
    steps: tuple[Step, ...] = ()
    stages: tuple[Stage, ...] = ()
    recipes: tuple[dict[str, Any], ...] = Field(default=(), description="one row per quantisation recipe that was tried, cells by column")
    figures: dict[str, Any] = Field(default_factory=dict, description="title and blocks, from the use case")
    answer: tuple[dict[str, Any], ...] = Field(default=(), description="blocks of the chosen bundle's answer to its example request")
    lineage: tuple[dict[str, Any], ...] = Field(default=(), description="manifests, the chosen bundle first")
    next_commands: tuple[str, ...] = ()

    @property
    def monitor(self) -> str:
        return self.chosen.model.usecase.monitor

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        return (self.chosen, *(rejection.evaluation for rejection in self.rejected))

    @property
    def compared_with(self) -> Evaluation | None:
        """The candidate with which quality is compared."""
        return next((e for e in self.evaluations if e.label == self.reference), None)

    @property
    def bundle(self) -> str:
        return str(self.chosen.model.folder)


def measures(facts: Facts) -> dict[str, Callable[[Evaluation], str]]:
    """Measurements other than scores, by the headings of their columns; energy only if it was measured."""
    columns: dict[str, Callable[[Evaluation], str]] = {
        "p50 ms": lambda e: quantity(e.latency_ms.p50),
        "p95 ms": lambda e: quantity(e.latency_ms.p95),
        "items/s": lambda e: quantity(e.throughput),
        "MB": lambda e: quantity(e.megabytes),
        "memory MB": lambda e: quantity(e.memory_megabytes),
    }
    if any(e.energy_millijoules is not None for e in facts.evaluations):
        columns["mJ"] = lambda e: "–" if e.energy_millijoules is None else quantity(e.energy_millijoules)
    return columns | {"load s": lambda e: quantity(e.load_seconds)}


def verdict(facts: Facts) -> str:
    """The outcome in two or three sentences, with scores on the test split."""
    chosen, tested = facts.chosen, facts.card.get("sizes", {}).get("test")
    on = f"on {tested:,} test examples" if tested else "on the test split"
    return (
        f"{chosen.label} was chosen on validation: {facts.monitor} {score(chosen.scores.get(facts.monitor))} {on}, "
        f"{quantity(chosen.latency_ms.p50)} ms per request (p95 {quantity(chosen.latency_ms.p95)} ms), "
        f"{quantity(chosen.megabytes)} MB. {against_reference(facts)}"
    )


def against_reference(facts: Facts) -> str:
    """The chosen candidate compared with the reference in one sentence, with scores on the test split."""
    reference, chosen = facts.compared_with, facts.chosen
    if reference is None:
        return "There was no other candidate to compare it with."
    if reference.label == chosen.label:
        return "It is the best candidate that was not compressed."
    change = chosen.scores[facts.monitor] - reference.scores[facts.monitor]
    quality = f"{facts.monitor} {change:+.4f}".replace("-", "−") if round(change, 4) else f"the same {facts.monitor}"
    noise = f" (95 % interval {interval(chosen.test_gain)})" if chosen.test_gain else ""
    speed = times(reference.latency_ms.p50 / chosen.latency_ms.p50, "faster", "slower")
    sized = times(reference.megabytes / chosen.megabytes, "smaller", "larger")
    return f"Compared with {reference.label}, the best candidate that was not compressed: {quality}{noise}, {speed}, {sized}."
