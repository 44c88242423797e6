"""Smaller number formats: the fastest recipes that a measured search finds."""

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
    """The best of each kind of quantisation of a model, by quality on validation and latency on this CPU."""

    def measured() -> Search:
        from tasks.compression.search import search

        return search(model, dataset, budget, seen.say)

    def build(recipe: Recipe, work: Path) -> dict[str, Any]:
        from tasks.compression.quantize import quantize as write_quantized

        return write_quantized(model, dataset, recipe, found.tried, work)

    name = "quantize" if model.role == "full" else f"quantize {model.label}"
    asked = budget.model_dump(mode="json", exclude={"max_latency_ms"})
    with step(name) as seen:
        found, seen.cached = store.remember(Search, {"budget": asked}, measured, (model, dataset), step=name, machine=True)
        made = []
        for recipe in found.recipes:
            quantized, _ = store.make(OnnxModel, {"recipe": recipe}, partial(build, recipe), (model, dataset), step=name, machine=True)
            made.append(quantized)
        seen.detail = ", ".join(m.label for m in made)
        if not is_here(budget.target):
            seen.detail += f"; timed on this machine's CPU, not on {budget.target}"
    return made
