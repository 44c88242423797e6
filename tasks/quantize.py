"""Quantisation, with recipes that are found by measuring."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from prefect import task

from tasks import store
from tasks.compression.recipes import Recipe, Search, is_here
from tasks.contract.artifacts import Dataset, OnnxModel
from tasks.reporting.terminal import step
from tasks.settings import Budget


@task(persist_result=False)
def quantize(model: OnnxModel, dataset: Dataset, budget: Budget) -> list[OnnxModel]:
    """Search for the best recipe of each kind of quantisation, by quality on validation and latency on this CPU.

    Args:
        model: to quantise.
        dataset: for calibration and scores.
        budget: the loss of quality that is allowed, and the target processor.

    Returns:
        The quantised models.
    """

    def measured() -> Search:
        from tasks.compression.search import search

        return search(model, dataset, budget, progress.say)

    def build(recipe: Recipe, work: Path) -> dict[str, Any]:
        from tasks.compression.quantize import quantize as write_quantized

        return write_quantized(model, dataset, recipe, found.tried, work)

    name = "quantize" if model.role == "full" else f"quantize {model.label}"
    settings = budget.model_dump(mode="json", exclude={"max_latency_ms", "goal"})
    with step(name) as progress:
        found, progress.cached = store.remember(Search, {"budget": settings}, measured, (model, dataset), step=name, machine=True)
        made = []
        for recipe in found.recipes:
            quantized, _ = store.make(OnnxModel, {"recipe": recipe}, partial(build, recipe), (model, dataset), step=name, machine=True)
            made.append(quantized)
        progress.detail = ", ".join(m.label for m in made)
        if not is_here(budget.target):
            progress.detail += f"; timed on this machine's CPU, not on {budget.target}"
    return made
