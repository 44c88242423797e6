"""Compares the server with others on the same graph and requests, in rounds: `python -m benchmarks.serving.compare`.

Each peer runs in its own environment: `--python litserve=/path/to/python`, `--python mlserver=...`; peers without one are skipped.
Before the measurement, each server has to give the answers of a bare session to concurrent requests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.serving import graphs
from benchmarks.serving.load import Load, answers, ask, request
from tasks.contract.artifacts import Dataset
from tasks.exporting.bundle import write_bundle
from tasks.exporting.export import write_graph
from tasks.serving.publishing import publish
from tasks.serving.sessions import open_session
from tests.toy import ToyUseCase

ROOT = Path(__file__).parents[2]
PEERS = ("fastapi", "litserve", "mlserver", "kserve", "pytriton")
CONCURRENCY = (1, 16, 64)
POINTS = 4096  # different requests, so that no answer is cached
CHECKED = 64  # number of requests whose answers are checked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", default=[f"fastapi={sys.executable}"], metavar="PEER=PYTHON")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    pythons = dict(one.split("=", 1) for one in given.python)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("tiny", "heavy"):
            compare(kind, Path(folder) / kind, pythons, given.seconds, given.rounds)
    cached(Path(tempfile.mkdtemp()), given.seconds)


def compare(kind: str, folder: Path, pythons: dict[str, str], seconds: float, rounds: int) -> None:
    repository, graph = bundled(folder, heavy=kind == "heavy")
    bare = bare_session(graph)
    print(f"\n{kind}: a bare session takes {bare:.3f} ms, {1e3 / bare:,.0f} runs per second")
    ours = [sys.executable, "-m", "tasks.serving", str(repository), "--cache_megabytes", "0", "--port"]
    servers = {"verticals": ours} | {
        peer: [pythons[peer], str(Path(__file__).parent / "peers" / f"with_{peer}.py"), str(graph)] for peer in PEERS if peer in pythons
    }
    found: dict[tuple[str, int], list[Load]] = {}
    for _ in range(rounds):
        for name, command in servers.items():
            requests = requests_for(name)
            with running(command, requests[0]) as port:
                check(name, asyncio.run(answers(port, requests[:CHECKED])), graph)
                asyncio.run(ask(port, requests, 4, 1.0))
                for connections in CONCURRENCY:
                    found.setdefault((name, connections), []).append(asyncio.run(ask(port, requests, connections, seconds)))
    print(f"{'':>10} " + " ".join(f"{f'{c} concurrent':>30}" for c in CONCURRENCY))
    for name in servers:
        cells = []
        for connections in CONCURRENCY:
            best = max(found[name, connections], key=lambda load: load.rate)
            failed = f" {best.failed} FAILED" if best.failed else ""
            cells.append(f"{best.rate:8,.0f}/s p50 {best.p50:6.2f} p95 {best.p95:6.2f}{failed}")
        print(f"{name:>10} " + " ".join(f"{cell:>30}" for cell in cells))
    mine = {c: max(load.rate for load in found["verticals", c]) for c in CONCURRENCY}
    overhead = min(load.p50 for load in found["verticals", 1]) - bare
    print(
        f"overhead of verticals at concurrency 1: {overhead:.2f} ms; throughput at 16 divided by that of a bare session: {mine[16] * bare / 1e3:.2f}"
    )
    for peer in list(servers)[1:]:
        ratios = ", ".join(f"{mine[c] / max(load.rate for load in found[peer, c]):.2f} at {c}" for c in CONCURRENCY)
        print(f"requests per second of verticals divided by those of {peer}: {ratios}")


def cached(folder: Path, seconds: float) -> None:
    """Latency of a cached response compared with one that is computed, on the heavy graph."""
    repository, _ = bundled(folder, heavy=True)
    requests = requests_for("verticals")
    with running([sys.executable, "-m", "tasks.serving", str(repository), "--port"], requests[0]) as port:
        asyncio.run(ask(port, requests[:1], 1, 0.5))
        hit = asyncio.run(ask(port, requests[:1], 1, seconds))
        miss = asyncio.run(ask(port, requests[1:], 1, seconds))
    print(f"\ncache hit {hit.p50:.2f} ms, miss {miss.p50:.2f} ms: ratio {miss.p50 / hit.p50:.1f}")


def bundled(folder: Path, heavy: bool) -> tuple[Path, Path]:
    """A repository with a bundle of the graph, and the path of the graph."""
    usecase, data, bundle = ToyUseCase(), folder / "data", folder / "bundle"
    bundle.mkdir(parents=True)
    card = usecase.prepare(data)
    (data / "card.json").write_text(json.dumps(card))
    torch.manual_seed(0)
    write_graph(usecase, usecase.network(data).eval(), {"point": np.zeros((2, 2), np.float32)}, bundle / "model.onnx")
    write_bundle(bundle, "fp32", usecase, data / "assets", Dataset(digest="0" * 64, usecase=usecase, sizes={}).at(data))
    graphs.write(bundle / "model.onnx", heavy)
    publish(bundle, folder / "repository", "toy")
    return folder / "repository", Path(shutil.copy(bundle / "model.onnx", folder / "model.onnx"))


def bare_session(graph: Path, seconds: float = 2.0) -> float:
    """Median milliseconds of a run at batch 1 with one thread."""
    session, taken = open_session(graph, 1), []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        session.run(None, {"point": np.random.rand(1, 2).astype(np.float32)})
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1e3


def points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(POINTS, 2)).round(4)


def requests_for(server: str) -> list[bytes]:
    if server in ("fastapi", "litserve"):
        return [request("/predict", json.dumps({"point": [point]}).encode()) for point in points().tolist()]
    tensors = [{"inputs": [{"name": "point", "shape": [1, 2], "datatype": "FP32", "data": [point]}]} for point in points().tolist()]
    return [request("/v2/models/toy/infer", json.dumps(one).encode()) for one in tensors]


def check(server: str, bodies: list[bytes], graph: Path) -> None:
    """Raises `AssertionError` if an answer differs from that of a bare session."""
    answers = [json.loads(body) for body in bodies]
    found = [np.ravel(one["probabilities"] if "probabilities" in one else one["outputs"][0]["data"]) for one in answers]
    (expected,) = open_session(graph, 1).run(None, {"point": points()[: len(bodies)].astype(np.float32)})
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-5, err_msg=f"{server} gives wrong answers")


@contextlib.contextmanager
def running(command: list[str], probe: bytes) -> Iterator[int]:
    """The port of a server that has answered `probe`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*command, str(port)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError, EOFError):
                asyncio.run(answers(port, [probe]))
                break
            if process.poll() is not None:
                raise SystemExit(f"The server ended at its start: {' '.join(command)} {port}")
            time.sleep(0.1)
        time.sleep(2)
        yield port
    finally:
        subprocess.run(["pkill", "-TERM", "-s", str(process.pid)], check=False)
        process.wait(30)


if __name__ == "__main__":
    main()
