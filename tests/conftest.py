"""Tests keep to themselves: own store, own Prefect home. Set before anything imports prefect."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.contract.cores import cores

_home = tempfile.TemporaryDirectory(prefix="verticals-tests-")
os.environ.update(
    VERTICALS_HOME=f"{_home.name}/store",
    PREFECT_HOME=f"{_home.name}/prefect",
    PREFECT_RESULTS_LOCAL_STORAGE_PATH=f"{_home.name}/results",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
)
os.environ.pop("PREFECT_API_URL", None)
# processes of pytest-xdist share the cores: each and what it starts computes with its part of them
os.environ["OMP_NUM_THREADS"] = str(cores(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
# the toy is a use case of another package, which is found by its entry point as any installed one
_outside = str(Path(__file__).with_name("outside"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_outside, os.environ.get("PYTHONPATH"))))
sys.path.insert(0, _outside)

import pytest  # noqa: E402

from tests import tiers  # noqa: E402
from tests.toy import ToyUseCase  # noqa: E402


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tiers.assign(items)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared toy data set."""
    folder = tmp_path_factory.mktemp("toy")
    ToyUseCase().prepare(folder)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two bundles of the toy, whose networks differ."""
    import numpy as np
    import torch

    from tasks.contract.artifacts import Dataset
    from tasks.exporting.bundle import write_bundle
    from tasks.exporting.export import write_graph

    data = tmp_path_factory.mktemp("data")
    usecase = ToyUseCase()
    (data / "card.json").write_text(json.dumps(usecase.prepare(data)))
    dataset = Dataset(digest="0" * 64, usecase=usecase, sizes={"train": 1}).at(data)
    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp(f"bundle{seed}")
        write_graph(usecase, usecase.network(data).eval(), {"point": np.zeros((2, 2), np.float32)}, folder / "model.onnx")
        write_bundle(folder, "fp32", usecase, data / "assets", dataset)
        folders.append(folder)
    return folders


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """The training supervisor that the tests share ends with them."""
    yield
    from tasks.training.launch import stop

    stop()
