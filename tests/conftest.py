"""Tests keep to themselves: own store, own Prefect home. Set before anything imports prefect."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_home = tempfile.TemporaryDirectory(prefix="verticals-tests-")
os.environ.update(
    VERTICALS_HOME=f"{_home.name}/store",
    PREFECT_HOME=f"{_home.name}/prefect",
    PREFECT_RESULTS_LOCAL_STORAGE_PATH=f"{_home.name}/results",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
)
os.environ.pop("PREFECT_API_URL", None)

import pytest  # noqa: E402

from tests.toy import ToyUseCase  # noqa: E402


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared toy data set."""
    folder = tmp_path_factory.mktemp("toy")
    ToyUseCase().prepare(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """The training supervisor that the tests share ends with them."""
    yield
    from tasks.training.launch import stop

    stop()
