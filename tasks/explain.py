"""Attributions of a trained network for the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefect import task

from tasks import store
from tasks.contract.artifacts import Checkpoint, Dataset, Explanation
from tasks.contract.capabilities import Attributable
from tasks.reporting.terminal import step


@task(persist_result=False)
def explain(checkpoint: Checkpoint, dataset: Dataset) -> Explanation:
    """Blocks for the report that need the network itself, such as gradients and attention."""

    def build(work: Path) -> dict[str, Any]:
        from tasks.training.checkpoints import load_network

        usecase = checkpoint.usecase
        blocks = usecase.attributions(load_network(checkpoint), dataset.folder) if isinstance(usecase, Attributable) else []
        (work / "blocks.json").write_text(json.dumps(blocks, ensure_ascii=False), encoding="utf-8")
        return {"usecase": checkpoint.usecase}

    with step("explain") as progress:
        explanation, progress.cached = store.make(Explanation, {}, build, (checkpoint, dataset), step="explain")
        progress.detail = f"{len(explanation.read('blocks.json'))} views"
    return explanation
