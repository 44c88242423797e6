"""int8: the fastest recipes that a measured search finds."""

from __future__ import annotations

from functools import partial

from prefect import task

from tasks import store
from tasks.artifacts import Dataset, OnnxModel
from tasks.machine import cpu
from tasks.reporting.terminal import step
from tasks.settings import Budget


@task(persist_result=False)
def quantize(model: OnnxModel, dataset: Dataset, budget: Budget) -> list[OnnxModel]:
    """The best static and the best dynamic int8 of a model, by quality on validation and latency on this CPU."""
    from tasks.compression.quantize import Search, search
    from tasks.compression.quantize import quantize as write_quantized

    facts = {"made_from": (model.digest, dataset.digest), "code": store.code_version("tasks.compression", "tasks.exporting"), "cpu": cpu()}
    of = "" if model.role == "full" else f" {model.label}"
    with step(f"quantize{of}", needs=("prepare", f"export{of}")) as seen:
        found, seen.cached = store.remember(
            Search, {**facts, "max_loss": budget.max_loss}, lambda: search(model, dataset, budget.max_loss, seen.say)
        )
        made = []
        for recipe in found.recipes:
            build = partial(write_quantized, model, dataset, recipe, found.tried)
            quantized, _ = store.make(OnnxModel, {**facts, "recipe": recipe.model_dump(mode="json")}, build)
            made.append(quantized)
        seen.detail = ", ".join(m.label for m in made)
    return made
