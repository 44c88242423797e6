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
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
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
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a folder and a port that nobody else uses."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return clean | {"PREFECT_PORT": str(free_port()), "VERTICALS_HOME": str(tmp_path_factory.mktemp("up"))}


@pytest.fixture(scope="module")
def client(environment: dict[str, str]) -> Iterator[SyncPrefectClient]:
    """Prefect's own, which asks again when the server is too busy to answer."""
    port = environment["PREFECT_PORT"]

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


def test_a_schedule_from_the_command_line_runs_with_its_settings(client: SyncPrefectClient, environment: dict[str, str]) -> None:
    small = ["--preset", "smoke", "--epochs", "2", "--pretraining.epochs", "1", "--usecase.width", "8"]
    command = [sys.executable, "-m", "flows", "schedule", "image-classification", "sample", "--cron", "0 3 * * *", "--name", "mine", *small]
    without_port = {name: value for name, value in environment.items() if name != "PREFECT_PORT"}  # `up` has kept it
    done = subprocess.run(command, cwd=ROOT, env=without_port, capture_output=True, text=True)
    assert done.returncode == 0 and "image-classification/mine runs at '0 3 * * *'" in done.stdout, done.stderr
    deployed = client.read_deployment_by_name("image-classification/mine")
    assert [each.schedule.cron for each in deployed.schedules if isinstance(each.schedule, CronSchedule)] == ["0 3 * * *"]
    assert deployed.parameters["fit"]["epochs"] == 2 and deployed.parameters["usecase"]["width"] == 8
    state = final_state(client, client.create_flow_run_from_deployment(deployed.id, state=Scheduled()).id)
    assert state.is_completed(), state
    refused = subprocess.run([*command, "--cron", "99 3 * * *"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and 'Invalid cron string: "99 3 * * *"' in refused.stderr and "Traceback" not in refused.stderr
