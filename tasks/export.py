"""From a checkpoint to a checked ONNX graph in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefect import task

from tasks import store
from tasks.contract.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.reporting.terminal import step

Role = Literal["full", "compressed", "baseline", "before"]


@task(persist_result=False)
def export(checkpoint: Checkpoint, dataset: Dataset, label: str = "fp32", role: Role = "full") -> OnnxModel:
    """The checkpoint as an ONNX graph with a symbolic batch, equal to torch on real examples, in a bundle that serves itself.

    `label` is the name of the candidate, `role` what it is among them.
    """

    def build(work: Path) -> dict[str, Any]:
        from tasks.exporting.export import export as export_graph

        return {**export_graph(checkpoint, dataset, work, label), "role": role}

    name = "export" if role == "full" else f"export {label}"
    with step(name) as seen:
        model, seen.cached = store.make(OnnxModel, {"label": label, "role": role}, build, (checkpoint, dataset), step=name)
        seen.detail = f"{model.megabytes:.2f} MB"
    return model
