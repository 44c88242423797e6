"""Requests during hot swaps, a rollback and a kill: `python -m benchmarks.serving.swaps --requests 10000`.

Counts failed requests, and answers of a version that was not active at any time between request and answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving.compare import ROOT, bundled
from tasks.serving.publishing import publish

SWAPS, CLIENTS = 5, 16
REQUEST = {"inputs": [{"name": "point", "shape": [1, 2], "datatype": "FP32", "data": [0.1, 0.2]}]}


class Observed:
    """What the clients observed; `switched` has the versions that were activated, with times."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, float, int, str]] = []  # time of the request, time of the answer, status, version
        self.switched: list[tuple[float, float, str]] = []  # time of the request, time of its acknowledgement, version

    def wrong(self) -> int:
        """Number of answers of a version that was not active at any time between request and answer."""
        count = 0
        for asked, answered, _, version in self.answers:
            may = {
                one
                for place, (requested, _, one) in enumerate(self.switched)
                if requested <= answered and (place + 1 == len(self.switched) or asked <= self.switched[place + 1][1])
            }
            count += version not in may
        return count


async def clients(url: str, observed: Observed, stop: asyncio.Event) -> None:
    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            while not stop.is_set():
                asked = time.monotonic()
                try:
                    answer = await http.post("/v2/models/toy/infer", json=REQUEST)
                    status, version = answer.status_code, answer.json().get("model_version", "")
                except httpx.HTTPError as error:
                    status, version = 0, type(error).__name__
                observed.answers.append((asked, time.monotonic(), status, version))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def swap(url: str, repository: Path, bundles: list[Path], requests: int) -> Observed:
    observed, stop = Observed(), asyncio.Event()
    observed.switched.append((0.0, 0.0, "1"))
    running = asyncio.ensure_future(clients(url, observed, stop))
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:

        async def switch(path: str) -> None:
            asked = time.monotonic()
            answer = (await http.post(f"/v2/repository/models/toy/{path}")).json()
            observed.switched.append((asked, time.monotonic(), answer["version"]))

        steps: list[Any] = [*range(SWAPS), "rollback"]
        for number, step in enumerate(steps, 1):
            while len(observed.answers) < requests * number / (len(steps) + 1):
                await asyncio.sleep(0.01)
            if step != "rollback":
                await asyncio.to_thread(publish, bundles[(number) % 2], repository, "toy")
            await switch("rollback" if step == "rollback" else "load")
        while len(observed.answers) < requests:
            await asyncio.sleep(0.01)
    stop.set()
    await running
    return observed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        repository, _ = bundled(Path(folder) / "one", heavy=False)
        bundled(Path(folder) / "two", heavy=True)
        bundles = [Path(folder) / name / "bundle" for name in ("one", "two")]
        process, port, _ = start(repository)
        observed = asyncio.run(swap(f"http://127.0.0.1:{port}", repository, bundles, requests))
        failed = sum(status != 200 for _, _, status, _ in observed.answers)
        versions = " ".join(version for _, _, version in observed.switched)
        print(
            f"{len(observed.answers):,} requests while {versions} were active in turn: {failed} failed, {observed.wrong()} from a wrong version"
        )
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process, port, seconds = start(repository)
        version = httpx.post(f"http://127.0.0.1:{port}/v2/models/toy/infer", json=REQUEST).json()["model_version"]
        print(
            f"after kill -9: ready in {seconds:.2f} s with version {version}; before the kill, version {observed.switched[-1][2]} was active"
        )
        process.terminate()
        process.wait()


def start(repository: Path) -> tuple[subprocess.Popen[bytes], int, float]:
    """A server, its port, and the seconds until it was ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    command = [sys.executable, "-m", "tasks.serving", str(repository), "--cache_megabytes", "0", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200:
                return process, port, time.monotonic() - began
        except httpx.TransportError:
            time.sleep(0.02)


if __name__ == "__main__":
    main()
