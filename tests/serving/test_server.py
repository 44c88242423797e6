"""The server as others meet it: a process of its own, real sockets, both ways of asking."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trustme

from tasks.serving.app import CLIENT_CHECK_SECONDS, while_connected
from tasks.serving.bundle import open_bundle
from tasks.serving.publishing import publish
from tasks.serving.refusals import ClientDisconnected

ROOT = Path(__file__).parents[2]
POINT = [[0.3, -0.2]]


@dataclass
class Running:
    url: str
    repository: Path
    process: subprocess.Popen[str]
    errors: list[str]  # lines of standard error, so far
    reader: threading.Thread

    def stop(self) -> list[str]:
        """All that it said on standard error, once it has gone."""
        self.process.terminate()
        self.process.wait(30)
        self.reader.join(30)
        return self.errors

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)


@contextmanager
def running(repository: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "tasks.serving", str(repository), "--port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=errors.extend, args=(process.stderr,), daemon=True)  # or its pipe would fill up
    reader.start()
    try:
        line = process.stdout.readline()
        found = re.search(r"https?://[\d.:]+", line)
        assert found, line
        yield Running(found[0], repository, process, errors, reader)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def repository(made: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    publish(made[0], folder, "toy")
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Running]:
    with running(repository, "--max_megabytes", "1", "--max_rows", "64") as found:
        yield found


def until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads do; pytest's own limit ends it where it does not come."""
    while not condition():
        time.sleep(0.01)


def request(points: list[list[float]] = POINT, **changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "point", "shape": [len(points), 2], "datatype": "FP32", "data": points}], **changes}


def test_the_protocol_is_spoken(server: Running, made: list[Path]) -> None:
    expected = open_bundle(made[0]).predict({"point": np.array(POINT, dtype=np.float32)})["probabilities"]
    with server.client() as http:
        assert http.get("/v2/health/live").status_code == http.get("/v2/health/ready").status_code == 200
        assert http.get("/v2").json()["name"] == "verticals"
        assert http.get("/v2/models/toy").json() == http.get("/v2/models/toy/versions/1").json()
        assert http.get("/v2/models/toy").json()["inputs"] == [{"name": "point", "datatype": "FP32", "shape": [-1, 2]}]
        assert http.get("/v2/models/toy/versions/1/ready").status_code == 200
        assert http.get("/v2/models/toy/config").json()["input"] == [{"name": "point", "data_type": "TYPE_FP32", "dims": [2]}]
        for path in ("/v2/models/toy/infer", "/v2/models/toy/versions/1/infer"):
            answer = http.post(path, json=request(id="seven")).json()
            assert (answer["model_name"], answer["model_version"], answer["id"]) == ("toy", "1", "seven")
            assert np.allclose(answer["outputs"][0]["data"], expected.ravel(), atol=1e-6)
        index = http.post("/v2/repository/index").json()
        assert index == [{"name": "toy", "version": "1", "state": "READY", "reason": ""}]
        stats = http.get("/v2/models/toy/stats").json()["model_stats"][0]
        assert stats["inference_stats"]["success"]["count"] >= 2 and stats["inference_count"] >= 1


def test_tensors_travel_raw_and_compressed(server: Running) -> None:
    raw = np.array(POINT, dtype=np.float32).tobytes()
    asked = {"name": "point", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [asked], "parameters": {"binary_data_output": True}}).encode()
    with server.client() as http:
        plain = http.post("/v2/models/toy/infer", json=request()).json()["outputs"][0]["data"]
        answer = http.post("/v2/models/toy/infer", content=head + raw, headers={"Inference-Header-Content-Length": str(len(head))})
        length = int(answer.headers["Inference-Header-Content-Length"])
        assert json.loads(answer.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
        assert np.frombuffer(answer.content[length:], np.float32).tolist() == pytest.approx(plain)
        zipped = http.post(
            "/v2/models/toy/infer", content=gzip.compress(json.dumps(request()).encode()), headers={"Content-Encoding": "gzip"}
        )
        assert zipped.json()["outputs"][0]["data"] == plain


def test_a_person_is_answered_in_words(server: Running) -> None:
    with server.client() as http:
        assert http.get("/v1/models").json() == [{"name": "toy", "version": "1", "vertical": "toy", "takes": "json", "explains": False}]
        assert http.get("/v1/models/toy/example").json() == [0.1, 0.2]
        answer = http.post("/v1/models/toy:predict", json=POINT[0])
        assert answer.json().keys() == {"model", "version", "label", "probability"}
        displayed = [http.post(f"/v1/models/toy:predict?blocks={wanted}", json=POINT[0]) for wanted in ("true", "false", "true")]
        assert displayed[1].content == answer.content, "an answer without blocks is the same, cached or not"
        blocks = displayed[0].json().pop("blocks")
        assert displayed[0].json() == displayed[2].json() == {**answer.json(), "blocks": blocks}
        assert [(block["kind"], block["title"]) for block in blocks] == [("bars", answer.json()["label"])]
        refused = http.post("/v1/models/toy:predict?explain=true", json=POINT[0])
        assert refused.status_code == 400 and "has no explanations" in refused.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "words"),
    [
        ("GET", "/v2/models/none", b"", 404, "There is no model 'none'. Loaded models: toy"),
        ("GET", "/v2/models/toy/versions/9", b"", 404, "no loaded version '9'"),
        ("GET", "/v2/models/..%2f..%2fetc/config", b"", 404, ""),
        ("POST", "/v2/models/toy/infer", b"{", 400, "is not valid JSON"),
        ("POST", "/v2/models/toy/infer", json.dumps(request([[1.0, 2.0]] * 65)).encode(), 413, "65 rows; 1 to 64"),
        ("POST", "/v2/models/toy/infer", b" " * 1_000_001, 413, "larger than 1,000,000 bytes"),
        ("POST", "/v2/models/toy/infer", json.dumps(request(outputs=[{"name": "z"}])).encode(), 400, "There is no output 'z'"),
        ("POST", "/v2/models/toy/infer", json.dumps(request(parameters={"timeout": -3})).encode(), 400, "has to be above 0"),
        ("POST", "/v1/models/toy:predict", b"", 400, "The body is empty"),
        ("POST", "/v2/repository/models/none/load", b"", 404, "The repository has no model 'none'"),
        ("POST", "/v2/repository/models/toy/rollback", b"", 400, "no previous version to 1"),
        ("POST", "/v2/repository/models/toy/traffic", b'{"canery": "2"}', 400, "The body has to be an object such as"),
        (
            "POST",
            "/v2/repository/models/toy/traffic",
            b'{"canary": ' + b"[" * 1000 + b"]" * 1000 + b"}",
            400,
            "'canary' has to be a version",
        ),
        ("GET", "/nowhere", b"", 404, ""),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    method: str, path: str, content: bytes, status: int, words: str, server: Running
) -> None:
    with server.client() as http:
        answer = http.request(method, path, content=content)
        assert answer.status_code == status and words in answer.text
        if words:
            assert answer.json().keys() == {"error"}


def test_a_client_that_hangs_up_within_its_body_is_no_failure(repository: Path) -> None:
    with running(repository, "--log_share", "1") as server:
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
            connection.sendall(b"POST /v2/models/toy/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{")
        with server.client() as http:
            assert http.post("/v2/models/toy/infer", json=request()).status_code == 200
        lines = [json.loads(line) for line in server.stop()]
    assert sorted(line["status"] for line in lines if line["message"] == "request") == [200, 499]
    assert not [line for line in lines if line["level"] == "error"]


def test_a_body_without_a_length_is_bounded(server: Running) -> None:
    with server.client() as http:
        answer = http.post("/v2/models/toy/infer", content=(b" " * 100_000 for _ in range(20)))
        assert answer.status_code == 413


def test_a_hot_swap_over_http_fails_no_request(server: Running, made: list[Path], tmp_path: Path) -> None:
    publish(made[0], server.repository, "swapped")
    stop, seen = threading.Event(), []

    def ask() -> None:
        with server.client() as http:
            while not stop.is_set():
                answer = http.post("/v2/models/swapped/infer", json=request())
                seen.append((answer.status_code, answer.json().get("model_version")))

    with server.client() as http, ThreadPoolExecutor(4) as pool:
        assert http.post("/v2/repository/models/swapped/load").json() == {"name": "swapped", "version": "1"}
        for _ in range(4):
            pool.submit(ask)
        try:
            for number in (2, 3):
                until(lambda number=number: (200, str(number - 1)) in seen)
                publish(made[(number + 1) % 2], server.repository, "swapped")
                assert http.post("/v2/repository/models/swapped/load").json()["version"] == str(number)
                assert http.post("/v2/models/swapped/infer", json=request()).json()["model_version"] == str(number)
            assert http.post("/v2/repository/models/swapped/rollback").json()["version"] == "2"
            before = len(seen)
            until(lambda: len(seen) > before + 8)
        finally:
            stop.set()
    assert {status for status, _ in seen} == {200} and {version for _, version in seen} == {"1", "2", "3"}
    with server.client() as http:
        assert http.post("/v2/repository/models/swapped/unload").status_code == 200
        assert http.post("/v2/models/swapped/infer", json=request()).status_code == 503


def test_what_happened_is_counted_for_prometheus(server: Running) -> None:
    with server.client() as http:
        http.post("/v2/models/toy/infer", json=request())
        http.post("/v2/models/toy/infer", content=b"{")
        page = http.get("/metrics").text
    for line in (
        r'verticals_requests_total\{model="toy",protocol="v2",status="200",version="1"\} [1-9]',
        r'verticals_requests_total\{model="toy",protocol="v2",status="400",version="1"\} [1-9]',
        r'verticals_batch_rows_count\{model="toy",version="1"\} [1-9]',
        r"verticals_cache_hits_total [0-9]",
        r'verticals_version_ready\{model="toy",version="1"\} 1.0',
    ):
        assert re.search(line, page), line


def test_the_api_describes_itself(server: Running) -> None:
    with server.client() as http:
        described = http.get("/openapi.json").json()
        assert {"/v2/models/{model}/infer", "/v1/models/{model}:predict", "/v2/repository/index"} <= described["paths"].keys()
        page = http.get("/docs").text
        needed = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(needed) >= 3 and all(http.get(one).status_code == 200 for one in needed), "all of it comes from here"


def test_tls_and_what_does_not_speak_it(repository: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    trusted = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    options = ("--certificate", str(tmp_path / "certificate.pem"), "--certificate_key", str(tmp_path / "key.pem"))
    with running(repository, *options) as server:
        assert server.url.startswith("https://")
        with httpx.Client(base_url=server.url, verify=trusted) as http:
            assert http.post("/v2/models/toy/infer", json=request()).status_code == 200
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{server.url}/v2")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{server.url.replace('https', 'http')}/v2")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_asks_and_shows_the_answer_in_a_browser(width: int, server: Running, tmp_path: Path) -> None:
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", f"--window-size={width},900"]
    command += ["--virtual-time-budget=8000", "--dump-dom", f"{server.url}/?model=toy&example"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert re.search(r"<h2>[ab]</h2>", done.stdout), done.stdout[-2000:]
    assert "toy, version 1" in done.stdout and "https://" not in done.stdout


def test_keys_open_what_they_say(repository: Path, tmp_path: Path) -> None:
    def new(*arguments: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "tasks.serving", "key", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        key, line = (part.rpartition(": ")[2] for part in done.stdout.splitlines())
        assert key not in line
        return key, line

    (all_key, all_line), (other_key, other_line) = new("ann"), new("bob", "--models", "other")
    (tmp_path / "keys").write_text(f"{all_line}\n{other_line}  # of another model\n")
    with running(repository, "--keys", str(tmp_path / "keys"), "--requests_per_second", "0.02") as server:
        with server.client() as http:
            assert http.get("/v2/health/ready").status_code == 200
            missing = http.post("/v2/models/toy/infer", json=request())
            assert missing.status_code == 401 and missing.headers["WWW-Authenticate"] == "Bearer"
            assert http.get("/metrics").status_code == http.get("/v2/models/toy", headers={"X-Api-Key": "wrong"}).status_code == 401
        with server.client(Authorization=f"Bearer {other_key}") as http:
            assert http.get("/v1/models").json() == []
            assert http.post("/v2/models/toy/infer", json=request()).status_code == 403
            assert http.post("/v2/repository/models/toy/unload").status_code == 403
        with server.client(**{"X-Api-Key": all_key}) as http:
            answers = [http.post("/v2/models/toy/infer", json=request()) for _ in range(3)]
            assert answers[0].status_code == 200 and answers[-1].status_code == 429
            assert int(answers[-1].headers["Retry-After"]) >= 1


def test_a_terminated_server_answers_what_it_was_asked(repository: Path) -> None:
    with running(repository) as server:
        answered: list[int] = []

        def ask() -> None:
            with server.client() as http:
                for _ in range(1000):
                    try:
                        answered.append(http.post("/v2/models/toy/infer", json=request()).status_code)
                    except httpx.ConnectError:
                        return  # it takes nothing new

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask) for _ in range(4)]
            until(lambda: len(answered) > 20)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait() in (0, -signal.SIGTERM)
            failures = [one.exception() for one in asked]
        assert answered and set(answered) == {200}
        assert all(error is None or isinstance(error, httpx.RemoteProtocolError | httpx.ReadError) for error in failures)


def test_it_comes_back_after_a_kill(repository: Path) -> None:
    for _ in range(2):
        with running(repository) as server:
            with server.client() as http:
                assert http.post("/v2/models/toy/infer", json=request()).json()["model_version"] == "1"
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()


def test_a_port_that_is_taken_is_said(server: Running) -> None:
    taken = server.url.rpartition(":")[2]
    for setting in ("--port", "--grpc_port"):
        command = [sys.executable, "-m", "tasks.serving", str(server.repository), "--port", "0", setting, taken]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and f"{setting} {taken}: cannot listen on 127.0.0.1" in done.stderr


def test_work_for_a_client_that_left_is_dropped() -> None:
    dropped = asyncio.Event()

    class Left:
        async def receive(self) -> dict[str, str]:
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            dropped.set()
            raise

    async def body() -> None:
        with pytest.raises(ClientDisconnected):
            await while_connected(Left(), work())  # pyright: ignore[reportArgumentType]
        assert dropped.is_set()
        assert await while_connected(Left(), asyncio.sleep(0, "answered")) == "answered"  # pyright: ignore[reportArgumentType]

    asyncio.run(body())


def test_a_client_that_leaves_as_its_answer_is_ready_disturbs_nothing_after() -> None:
    async def body() -> None:
        ended = asyncio.Event()

        class Leaving:
            async def receive(self) -> dict[str, str]:
                await ended.wait()
                return {"type": "http.disconnect"}

        async def work() -> str:
            await asyncio.sleep(2 * CLIENT_CHECK_SECONDS)
            ended.set()
            await asyncio.sleep(0)
            return "answered"

        assert await while_connected(Leaving(), work()) == "answered"  # pyright: ignore[reportArgumentType]
        await asyncio.sleep(0.01)  # such as writing the answer: it would be cancelled here

    asyncio.run(body())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere"], "There is no folder /nowhere"),
        (["REPOSITORY", "--port", "99999"], "--port 99999"),
        (["REPOSITORY", "--keys", "/nowhere"], "The file of keys /nowhere cannot be read"),
        (["REPOSITORY", "--certificate", "a.pem"], "have to be given together"),
        (["REPOSITORY", "--certificate", "a.pem", "--certificate_key", "b.pem"], "cannot be read"),
        (["REPOSITORY", "--device", "tpu"], "--device tpu"),
    ],
)
def test_a_server_that_cannot_start_says_why(arguments: list[str], words: str, repository: Path) -> None:
    listed = [str(repository) if one == "REPOSITORY" else one for one in arguments]
    done = subprocess.run([sys.executable, "-m", "tasks.serving", *listed], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_the_process_is_light() -> None:
    code = "import sys, tasks.serving.server; print(*({'torch', 'transformers', 'prefect', 'pytorch_lightning'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
