"""A live server, our deployments and a worker: by trigger and by schedule."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Scheduled

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
RUN_SECONDS = 1500  # after which a run is taken for hung


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    """Prefect's own, which asks again when the server is too busy to answer."""
    port = free_port()
    home = tmp_path_factory.mktemp("up")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = clean | {"PREFECT_PORT": str(port), "VERTICALS_HOME": str(home)}

    def local(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "flows", *arguments], cwd=ROOT, env=environment, check=True)

    local("up")
    try:
        with SyncPrefectClient(f"http://127.0.0.1:{port}/api") as client:
            yield client
    finally:
        local("down")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/api/health")


@pytest.fixture(scope="module")
def deployment(client: SyncPrefectClient) -> UUID:
    return client.read_deployment_by_name("image-classification/smoke").id


def final_state(client: SyncPrefectClient, run: UUID) -> State:
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        state = client.read_flow_run(run).state
        if state and state.is_final():
            return state
        time.sleep(1)
    raise AssertionError(f"The run did not end in {RUN_SECONDS} s.")


SMALL = {"usecase": {"data": "sample", "width": 8}, "pretraining": {"epochs": 1}, "fit": {"epochs": 2}, "budget": {}}


def test_a_worker_runs_what_is_triggered(client: SyncPrefectClient, deployment: UUID) -> None:
    run = client.create_flow_run_from_deployment(deployment, parameters=SMALL, state=Scheduled())
    state = final_state(client, run.id)
    assert state.is_completed(), state
    assert {"image-classification-summary", "image-classification-data", "image-classification-lineage"} <= {
        artifact.key for artifact in client.read_artifacts()
    }


def test_a_worker_runs_what_is_scheduled(client: SyncPrefectClient, deployment: UUID) -> None:
    every_minute = IntervalSchedule(interval=timedelta(minutes=1))
    created = client.create_deployment_schedules(deployment, [(every_minute, True)], parameters=SMALL)[0]
    client.set_deployment_paused_state(deployment, paused=False)
    ours = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    deadline = time.monotonic() + RUN_SECONDS
    scheduled: list[UUID] = []
    while not scheduled and time.monotonic() < deadline:
        runs = client.read_flow_runs(deployment_filter=ours, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
        scheduled = [run.id for run in runs if run.auto_scheduled]
        time.sleep(1)
    assert scheduled, "the server scheduled nothing"
    state = final_state(client, scheduled[0])
    client.delete_deployment_schedule(deployment, created.id)
    assert state.is_completed(), state
