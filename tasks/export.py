"""Export of a checkpoint to a bundle with an ONNX graph."""

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
    """Export a checkpoint to a bundle, with a dynamic batch size, and check its outputs against the network on real examples.

    Args:
        checkpoint: the trained network.
        dataset: for the codec and the examples.
        label: name of the candidate.
        role: kind of the candidate.

    Returns:
        The exported model.
    """

    def build(work: Path) -> dict[str, Any]:
        from tasks.exporting.export import export as export_graph

        return {**export_graph(checkpoint, dataset, work, label), "role": role}

    name = "export" if role == "full" else f"export {label}"
    with step(name) as progress:
        model, progress.cached = store.make(OnnxModel, {"label": label, "role": role}, build, (checkpoint, dataset), step=name)
        progress.detail = f"{model.megabytes:.2f} MB"
    return model
