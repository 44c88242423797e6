"""A live server, our deployments and a worker: by trigger and by schedule."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 420


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    home = tmp_path_factory.mktemp("up")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = clean | {"PREFECT_PORT": str(port), "VERTICALS_HOME": str(home)}

    def local(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "deploy.local", *arguments], cwd=ROOT, env=environment, check=True, timeout=240)

    local()
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        local("down")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/api/health")


@pytest.fixture(scope="module")
def deployment(api: str) -> str:
    return httpx.get(f"{api}/deployments/name/image-classification/smoke").raise_for_status().json()["id"]


def wait_for(api: str, run: str) -> dict[str, str]:
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        state = httpx.get(f"{api}/flow_runs/{run}").raise_for_status().json()["state"]
        if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return state
        time.sleep(1)
    return {"type": "none in time"}


SMALL = {"usecase": {"data": "sample", "width": 8}, "pretraining": {"epochs": 1}, "fit": {"epochs": 2}, "budget": {}}


@pytest.mark.timeout(900)
def test_a_worker_runs_what_is_triggered(api: str, deployment: str) -> None:
    run = httpx.post(f"{api}/deployments/{deployment}/create_flow_run", json={"parameters": SMALL, "state": {"type": "SCHEDULED"}})
    state = wait_for(api, run.raise_for_status().json()["id"])
    assert state["type"] == "COMPLETED", json.dumps(state)
    artifacts = httpx.post(f"{api}/artifacts/filter", json={}).raise_for_status().json()
    assert {"image-classification-summary", "image-classification-data", "image-classification-lineage"} <= {a["key"] for a in artifacts}


@pytest.mark.timeout(900)
def test_a_worker_runs_what_is_scheduled(api: str, deployment: str) -> None:
    every_minute = {"schedule": {"interval": timedelta(minutes=1).total_seconds()}, "active": True, "parameters": SMALL}
    created = httpx.post(f"{api}/deployments/{deployment}/schedules", json=[every_minute]).raise_for_status().json()[0]["id"]
    httpx.patch(f"{api}/deployments/{deployment}", json={"paused": False}).raise_for_status()
    by_schedule = {"flow_runs": {"deployment_id": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
    deadline = time.monotonic() + 90
    runs: list[dict[str, str]] = []
    while not runs and time.monotonic() < deadline:
        found = httpx.post(f"{api}/flow_runs/filter", json=by_schedule).raise_for_status().json()
        runs = [run for run in found if run["auto_scheduled"]]
        time.sleep(1)
    assert runs, "the server scheduled nothing"
    state = wait_for(api, runs[0]["id"])
    httpx.delete(f"{api}/deployments/{deployment}/schedules/{created}").raise_for_status()
    assert state["type"] == "COMPLETED", json.dumps(state)
