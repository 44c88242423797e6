"""A server process for a copy of a repository, valid requests with their correct answers, and the resources that the process uses."""

from __future__ import annotations

import contextlib
import mimetypes
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import psutil

from benchmarks.serving.load import request
from tasks.contract.types import Arrays
from tasks.serving.bundle import example_path, open_bundle
from tasks.serving.graph_files import GRAPH
from tasks.serving.messages import MESSAGES
from tasks.serving.models import Models
from tasks.serving.settings import Serving
from tasks.serving.tensors import DATATYPES, NAMES

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
EXACT, LOOSE = 1e-3, 0.5
LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Live:
    """A running server; `log` is its standard error."""

    process: psutil.Popen
    port: int
    grpc_port: int
    log: Path


class Sample(NamedTuple):
    seconds: float
    megabytes: float
    threads: int
    files: int


@dataclass(frozen=True)
class Valid:
    """A valid request with the correct outputs by version, and the example of the model with its answers by version.

    `tolerance` is how much an answer may differ if it is computed in a batch with other requests.
    """

    model: str
    inputs: Arrays
    outputs: Mapping[str, Arrays]
    example: Path
    answers: Mapping[str, dict[str, Any]]
    tolerance: float
    text: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tensors = [{**described(name, array), "data": array.ravel()} for name, array in self.inputs.items()]
        object.__setattr__(self, "text", orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY))

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}/infer"

    @property
    def takes(self) -> str:
        """The media type of the example."""
        return mimetypes.guess_type(self.example.name)[0] or "application/octet-stream"

    def head(self) -> dict[str, Any]:
        """The JSON part before raw bytes."""
        tensors = [{**described(name, array), "parameters": {"binary_data_size": array.nbytes}} for name, array in self.inputs.items()]
        return {"inputs": tensors, "parameters": {"binary_data_output": True}}

    def raw(self) -> list[bytes]:
        return [array.tobytes() for array in self.inputs.values()]

    def message(self) -> Any:
        tensors = [described(name, array) for name, array in self.inputs.items()]
        return MESSAGES["ModelInferRequest"](model_name=self.model, inputs=tensors, raw_input_contents=self.raw())

    def in_json(self) -> bytes:
        return request(self.path, self.text)

    def in_binary(self) -> bytes:
        head = orjson.dumps(self.head())
        return request(self.path, b"".join([head, *self.raw()]), {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"})

    def as_example(self, query: str = "") -> bytes:
        return request(f"/v1/models/{self.model}:predict{query}", self.example.read_bytes(), {"Content-Type": self.takes})

    def right(self, version: str, outputs: Arrays, tolerance: float = EXACT) -> bool:
        """Whether outputs are correct for a version; a few integers may differ, since two scores may be nearly equal."""
        expected = self.outputs.get(version, {})
        return expected.keys() == outputs.keys() and all(_near(expected[name], array, tolerance) for name, array in outputs.items())


def described(name: str, array: np.ndarray) -> dict[str, Any]:
    return {"name": name, "datatype": NAMES[array.dtype], "shape": list(array.shape)}


def _near(expected: np.ndarray, found: np.ndarray, tolerance: float) -> bool:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    if expected.dtype.kind != "f":
        return bool((expected == found).mean() > 0.99)
    return bool(np.abs(expected - found).max(initial=0.0) <= tolerance * max(1.0, float(np.abs(expected).max(initial=0.0))))


def read_answer(body: bytes, length: str | None) -> tuple[str, Arrays]:
    """Version and outputs of a v2 answer over HTTP."""
    answer = orjson.loads(body if length is None else body[: int(length)])
    raw, outputs = b"" if length is None else body[int(length) :], {}
    for one in answer["outputs"]:
        dtype, size = np.dtype(DATATYPES[one["datatype"]]), one.get("parameters", {}).get("binary_data_size")
        flat = np.array(one["data"], dtype) if size is None else np.frombuffer(raw[:size], dtype)
        outputs[one["name"]], raw = flat.reshape(one["shape"]), raw[size or 0 :]
    return answer["model_version"], outputs


def read_message(answer: Any) -> tuple[str, Arrays]:
    pairs = zip(answer.outputs, answer.raw_output_contents, strict=True)
    return answer.model_version, {one.name: np.frombuffer(raw, DATATYPES[one.datatype]).reshape(list(one.shape)) for one, raw in pairs}


def copied(repository: Path, folder: Path, twice: bool = False) -> Path:
    """Copy the newest two versions of each model to a repository that may be changed; with `twice`, copy a single version two times."""
    for name, versions in Models(repository, Serving()).find_bundles().items():
        for version, bundle in list(versions.items())[-2:]:
            shutil.copytree(bundle, folder / name / version)
        if twice and len(versions) == 1:
            (version, bundle), *_ = versions.items()
            shutil.copytree(bundle, folder / name / str(int(version) + 1))
    return folder


def valid_requests(repository: Path, variants: int = 1) -> list[Valid]:
    """The example of each model as tensors, rolled along the last axis for each further variant."""
    found = []
    for name, versions in Models(repository, Serving()).find_bundles().items():
        bundles = {version: open_bundle(folder) for version, folder in versions.items()}
        newest = list(bundles.values())[-1]
        example = newest.example_request()
        first = newest.codec.encode([example])
        answers = {version: orjson.loads(orjson.dumps(bundle.answer([example])[0])) for version, bundle in bundles.items()}
        scaled = any(
            b"DynamicQuantizeLinear" in (bundle.folder / GRAPH).read_bytes() for bundle in bundles.values()
        )  # the scale depends on all rows of a batch
        for step in range(variants):
            inputs = {key: np.ascontiguousarray(np.roll(array, step, axis=-1)) for key, array in first.items()}
            outputs = {version: bundle.predict(inputs) for version, bundle in bundles.items()}
            found.append(Valid(name, inputs, outputs, example_path(newest.folder), answers, LOOSE if scaled else EXACT))
    return found


@contextlib.contextmanager
def serving(repository: Path, log: Path, *options: str) -> Iterator[Live]:
    """Run a server until the context ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        grpc_port = free.getsockname()[1]
    command = [sys.executable, "-m", "tasks.serving", str(repository), "--port", "0", "--grpc_port", str(grpc_port), *options]
    with log.open("wb") as errors:
        process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    try:
        line = process.stdout.readline().decode()  # pyright: ignore[reportOptionalMemberAccess]
        timer.cancel()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if not found:
            raise SystemExit(f"The server did not start: {line}{log.read_text(errors='replace')[-2000:]}")
        yield Live(process, int(found[1]), grpc_port, log)
    finally:
        timer.cancel()
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        try:
            process.wait(60)
        except psutil.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def sampled(process: psutil.Popen, every: float) -> Iterator[list[Sample]]:
    """Sample memory, threads and files of a process at an interval in seconds while the context runs."""
    samples: list[Sample] = []
    stop, began = threading.Event(), time.monotonic()

    def sample() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while True:
                used = process.memory_info().rss / 1e6
                samples.append(Sample(time.monotonic() - began, used, process.num_threads(), process.num_fds()))
                if stop.wait(every):
                    return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
