"""What those who run a server see of it: the log of predictions, traces, the log, the dashboard."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.serving import predictions
from tasks.serving.bundle import open_bundle
from tasks.serving.predictions import PredictionLog, array_of, read
from tasks.serving.publishing import publish
from tests.serving.test_server import POINT, ROOT, request, running

WHICH = {"model": "toy", "version": "1", "protocol": "v2"}


@pytest.fixture
def repository(made: list[Path], tmp_path: Path) -> Path:
    publish(made[0], tmp_path / "repository", "toy")
    return tmp_path / "repository"


def test_predictions_are_logged_with_what_was_sent_and_read_back(repository: Path, made: list[Path], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(repository, "--predictions", str(log), "--predictions_share", "1", "--log_share", "1") as server, server.client() as http:
        answer = http.post("/v1/models/toy:predict", json=POINT[0]).json()
        http.post("/v2/models/toy/infer", json=request())
        http.post("/v2/models/toy/infer", json=request(inputs=[]))
        assert "verticals_predictions_dropped_total 0.0" in http.get("/metrics").text
        lines = [json.loads(line) for line in server.stop()]
    rows = read(log, "toy")
    assert [(row["version"], row["protocol"], row["request_type"]) for row in rows] == [("1", "v1", "json"), ("1", "v2", None)]
    assert json.loads(rows[0]["request"]) == POINT[0] and json.loads(rows[0]["answer"]).items() <= answer.items()
    expected = open_bundle(made[0]).predict({"point": np.array(POINT, dtype=np.float32)})["probabilities"]
    for row in rows:
        (point,), (probabilities,) = row["inputs"], row["outputs"]
        assert np.allclose(array_of(point), POINT) and np.allclose(array_of(probabilities), expected) and row["milliseconds"] > 0  # pyright: ignore[reportArgumentType, reportCallIssue]
    told = [(line["model"], line["status"]) for line in lines if line["message"] == "request"]
    assert told == [("toy", 200), ("toy", 200), ("toy", 400)]
    assert [line["message"] for line in lines if line["message"] in ("serves", "draining", "unloads")] == ["serves", "draining", "unloads"]
    assert json.dumps(POINT[0])[1:-1] not in json.dumps(lines), "what was sent stays out of the log"


def test_the_log_of_predictions_is_a_sample_bounded_in_memory_and_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"x": np.zeros((1, 1000), np.float32)}

    async def fill(log: PredictionLog, count: int) -> None:
        for _ in range(count):
            if log.is_sampled():
                log.add(WHICH, 0.001, arrays, arrays)
        await log.close()

    asyncio.run(fill(PredictionLog(tmp_path / "sample", 0.2, 10**9), 2000))
    assert 300 < len(read(tmp_path / "sample", "toy")) < 500

    monkeypatch.setattr(predictions, "MAX_PENDING_BYTES", 80_000)
    full = PredictionLog(tmp_path / "full", 1.0, 10**9)
    asyncio.run(fill(full, 50))
    assert (full.written, full.dropped) == (10, 40), "no more than may wait is kept in memory"

    files = sorted((tmp_path / "full" / "toy").iterdir())
    old = files[0].with_name("20200101T000000.000000-1.parquet")
    old.write_bytes(files[0].read_bytes())
    os.utime(old, (0, 0))
    predictions.remove_oldest(tmp_path / "full", 10)
    assert not old.exists() and files[0].exists(), "the oldest goes first; what has just been written stays"

    monkeypatch.setattr(predictions, "MAX_TENSOR_BYTES", 100)
    asyncio.run(fill(PredictionLog(tmp_path / "large", 1.0, 10**9), 1))
    ((row,),) = [read(tmp_path / "large", "toy")]
    assert array_of(row["inputs"][0]) is None and row["inputs"][0]["shape"] == [1, 1000]


def test_a_folder_that_cannot_be_written_costs_no_answer(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with running(repository, "--predictions", str(tmp_path / "file"), "--predictions_share", "1") as server, server.client() as http:
        assert http.post("/v2/models/toy/infer", json=request()).status_code == 200
        assert any("predictions not written" in line for line in server.stop())


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Takes what is sent by OTLP."""
    bodies: list[bytes] = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    listening = HTTPServer(("127.0.0.1", 0), Take)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", bodies
    finally:
        listening.shutdown()
        thread.join(10)


def test_a_request_is_traced_from_who_asks_to_the_computation(repository: Path) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with collector() as (endpoint, bodies):
        with running(repository, "--traces", endpoint) as server, server.client(**parent) as http:
            assert http.post("/v2/models/toy/infer", json=request()).status_code == 200
            assert http.post("/v2/models/toy/infer", content=b"{").status_code == 400
        sent = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    spans = [span for one in sent for resource in one.resource_spans for scope in resource.scope_spans for span in scope.spans]
    asked = [span for span in spans if span.name == "infer"]
    assert {span.trace_id.hex() for span in spans} == {"0af7651916cd43dd8448eb211c80319c"}
    assert {span.parent_span_id.hex() for span in asked} == {"b7ad6b7169203331"}
    facts = [{a.key: a.value.string_value or a.value.int_value for a in span.attributes} for span in asked]
    assert [(f["model"], f["version"], f["protocol"], f["http.response.status_code"]) for f in facts] == [
        ("toy", "1", "v2", 200), ("toy", "1", "v2", 400),
    ]  # fmt: skip
    inner = [span for span in spans if span.parent_span_id == asked[0].span_id]
    assert [span.name for span in inner] == ["queue", "compute"]
    assert asked[0].start_time_unix_nano <= inner[0].start_time_unix_nano <= inner[1].end_time_unix_nano <= asked[0].end_time_unix_nano


def test_the_dashboard_shows_what_the_server_counts(repository: Path) -> None:
    dashboard = (ROOT / "deploy" / "grafana" / "serving.json").read_text()
    shown = set(re.findall(r"verticals_[a-z_]+", dashboard))
    with running(repository, "--predictions", str(repository.parent / "log")) as server, server.client() as http:
        http.post("/v2/models/toy/infer", json=request())
        counted = set(re.findall(r"^(verticals_[a-z_]+)", http.get("/metrics").text, re.MULTILINE))
    assert shown <= counted and len(json.loads(dashboard)["panels"]) >= 6
