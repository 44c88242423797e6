"""Fitting of networks that are computed in closed form, such as baselines."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tasks.contract.artifacts import Dataset
from tasks.contract.capabilities import Computed
from tasks.contract.errors import ContractError
from tasks.contract.usecase import UseCase
from tasks.training.predicting import torch_predict


def compute(usecase: UseCase, dataset: Dataset, work: Path) -> dict[str, Any]:
    """Compute the weights of a baseline, and write its checkpoint to `work`.

    Args:
        usecase: the baseline.
        dataset: the prepared data.
        work: the folder of the checkpoint.

    Returns:
        The fields of its `Checkpoint`.

    Raises:
        ContractError: the use case is not `Computed`.
    """
    if not isinstance(usecase, Computed):
        raise ContractError(f"The baseline {type(usecase).__name__} of {dataset.usecase.name} is not Computed: it has no method fit.")
    started = time.monotonic()
    network = usecase.network(dataset.assets).eval()
    with torch.no_grad():
        usecase.fit(network, dataset.folder)
    seconds = time.monotonic() - started
    scores = usecase.score(torch_predict(usecase, network), dataset.folder, "validation")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, work / "weights.safetensors")
    shutil.copytree(dataset.assets, work / "assets", dirs_exist_ok=True)
    (work / "history.json").write_text("[]")
    (work / "fit.json").write_text(json.dumps({"seconds": round(seconds, 3)}))
    speed = len(usecase.examples(dataset.folder, "train")) / max(seconds, 1e-9)
    return {
        "usecase": usecase,
        "scores": scores,
        "seconds": seconds,
        "epochs": 0,
        "precision": "32-true",
        "precision_gap": 0.0,
        "examples_per_second": speed,
    }
