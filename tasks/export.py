"""From a checkpoint to a checked ONNX graph in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefect import task

from tasks import store
from tasks.contract.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.reporting.terminal import step
from tasks.train import made_by

Role = Literal["full", "compressed", "baseline", "before"]


@task(persist_result=False)
def export(checkpoint: Checkpoint, dataset: Dataset, label: str = "fp32", role: Role = "full") -> OnnxModel:
    """The checkpoint as an ONNX graph with a symbolic batch, equal to torch on real examples, in a bundle that serves itself.

    `label` is the name of the candidate, `role` what it is among them.
    """

    def build(work: Path) -> dict[str, Any]:
        from tasks.exporting.export import export as export_graph

        return {**export_graph(checkpoint, dataset, work, label), "role": role}

    made_from = (checkpoint.digest, dataset.digest)
    recipe = {
        "made_from": made_from,
        "label": label,
        "role": role,
        "usecase": checkpoint.usecase.settings(),
        "code": store.code_version("tasks.exporting", checkpoint.usecase.package()),
    }
    maker = "baselines" if role == "baseline" else made_by(checkpoint.digest)
    with step("export" if role == "full" else f"export {label}", needs=("prepare", maker)) as seen:
        model, seen.cached = store.make(OnnxModel, recipe, build)
        seen.detail = f"{model.megabytes:.2f} MB"
    return model
