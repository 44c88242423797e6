"""Bundles of the toy, small enough to make several versions of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.artifacts import Dataset
from tasks.exporting.bundle import write_bundle
from tasks.exporting.export import write_graph
from tests.toy import ToyUseCase

Bundles = Callable[[Path, int], Path]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two bundles of the toy, whose networks differ."""
    data = tmp_path_factory.mktemp("data")
    usecase = ToyUseCase()
    (data / "card.json").write_text(json.dumps(usecase.prepare(data)))
    dataset = Dataset(digest="0" * 64, location=str(data), usecase=usecase, sizes={"train": 1})
    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp(f"bundle{seed}")
        write_graph(usecase, usecase.network(data).eval(), {"point": np.zeros((2, 2), np.float32)}, folder / "model.onnx")
        write_bundle(folder, "fp32", usecase, data / "assets", dataset, ())
        folders.append(folder)
    return folders
