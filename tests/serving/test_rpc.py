"""The same models over gRPC: the protocol's methods, its status codes, keys and deadlines. And Triton's own client, where it is."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tasks.serving.bundle import open_bundle
from tasks.serving.guard import new_key
from tasks.serving.messages import MESSAGES, SERVICE
from tasks.serving.publishing import publish
from tests.serving.test_server import Running, running

POINT = np.array([[0.3, -0.2]], dtype=np.float32)


@pytest.fixture(scope="module")
def repository(made: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    publish(made[0], folder, "toy")
    return folder


@contextmanager
def calling(repository: Path, *options: str) -> Iterator[tuple[Running, int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running(repository, "--grpc_port", str(port), *options) as server:
        yield server, port


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[tuple[Running, int]]:
    with calling(repository, "--max_rows", "64") as found:
        yield found


def call(port: int, method: str, metadata: tuple[tuple[str, str], ...] = (), seconds: float = 20, **fields: Any) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=MESSAGES[f"{method}Request"].SerializeToString,
            response_deserializer=MESSAGES[f"{method}Response"].FromString,
        )
        return ask(MESSAGES[f"{method}Request"](**fields), timeout=seconds, metadata=metadata)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "point", "datatype": "FP32", "shape": [1, 2], **changes}


def test_the_protocol_is_spoken(server: tuple[Running, int], made: list[Path]) -> None:
    port = server[1]
    assert call(port, "ServerLive").live and call(port, "ServerReady").ready and call(port, "ModelReady", name="toy", version="1").ready
    assert call(port, "ServerMetadata").name == "verticals"
    described = call(port, "ModelMetadata", name="toy")
    assert list(described.versions) == ["1"] and list(described.inputs[0].shape) == [-1, 2]
    assert call(port, "ModelConfig", name="toy").config.input[0].data_type == 11, "FP32"
    assert [(row.name, row.state) for row in call(port, "RepositoryIndex").models] == [("toy", "READY")]
    expected = open_bundle(made[0]).predict({"point": POINT})["probabilities"]
    raw = call(port, "ModelInfer", model_name="toy", id="7", inputs=[tensor()], raw_input_contents=[POINT.tobytes()])
    typed = call(port, "ModelInfer", model_name="toy", inputs=[tensor(contents={"fp32_contents": POINT.ravel().tolist()})])
    assert raw.id == "7" and raw.model_version == "1" and raw.outputs[0].name == "probabilities"
    for answer in (raw, typed):
        assert np.frombuffer(answer.raw_output_contents[0], np.float32) == pytest.approx(expected.ravel(), abs=1e-6)
    assert call(port, "ModelStatistics", name="toy").model_stats[0].inference_stats.success.count >= 2


@pytest.mark.parametrize(
    ("method", "fields", "code", "words"),
    [
        ("ModelInfer", {"model_name": "none"}, grpc.StatusCode.NOT_FOUND, "There is no model 'none'"),
        ("ModelInfer", {"model_name": "toy", "inputs": [tensor()]}, grpc.StatusCode.INVALID_ARGUMENT, "has no data"),
        ("ModelInfer", {"model_name": "toy"}, grpc.StatusCode.INVALID_ARGUMENT, "'point' is missing"),
        (
            "ModelInfer",
            {"model_name": "toy", "inputs": [tensor()], "raw_input_contents": [b"12345678", b"1"]},
            grpc.StatusCode.INVALID_ARGUMENT,
            "more entries than there are inputs",
        ),
        (
            "ModelInfer",
            {"model_name": "toy", "inputs": [tensor(shape=[99, 2])], "raw_input_contents": [bytes(99 * 8)]},
            grpc.StatusCode.INVALID_ARGUMENT,
            "99 rows; 1 to 64",
        ),
        ("ModelMetadata", {"name": "toy", "version": "9"}, grpc.StatusCode.NOT_FOUND, "no loaded version '9'"),
        ("RepositoryModelLoad", {"model_name": "../x"}, grpc.StatusCode.NOT_FOUND, "has no model"),
    ],
)
def test_refusals_have_their_codes(
    method: str, fields: dict[str, Any], code: grpc.StatusCode, words: str, server: tuple[Running, int]
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        call(server[1], method, **fields)
    error: Any = refused.value
    assert error.code() == code and words in error.details()


def test_bytes_that_are_no_message_are_refused(server: tuple[Running, int]) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server[1]}") as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/ModelConfig")(b"L", timeout=20)
    error: Any = refused.value
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and error.details() == "The bytes are not a valid ModelConfigRequest."


def test_versions_are_swapped_and_keys_are_asked_for(made: list[Path], tmp_path: Path) -> None:
    publish(made[0], tmp_path / "models", "toy")
    key, line = new_key("ann")
    (tmp_path / "keys").write_text(line)
    with calling(tmp_path / "models", "--keys", str(tmp_path / "keys")) as (_, port):
        with pytest.raises(grpc.RpcError) as refused:
            call(port, "ModelReady", name="toy")
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED  # pyright: ignore[reportAttributeAccessIssue]
        known = (("authorization", f"Bearer {key}"),)
        publish(made[1], tmp_path / "models", "toy")
        call(port, "RepositoryModelLoad", known, model_name="toy")
        answer = call(port, "ModelInfer", known, model_name="toy", inputs=[tensor()], raw_input_contents=[POINT.tobytes()])
        assert answer.model_version == "2"
        call(port, "RepositoryModelLoad", known, model_name="toy", parameters=[{"key": "version", "value": {"string_param": "1"}}])
        call(port, "RepositoryModelUnload", known, model_name="toy")
        with pytest.raises(grpc.RpcError) as gone:
            call(port, "ModelInfer", known, model_name="toy", inputs=[tensor()], raw_input_contents=[POINT.tobytes()])
        assert gone.value.code() == grpc.StatusCode.UNAVAILABLE  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.skipif("VERTICALS_TRITON_PYTHON" not in os.environ, reason="VERTICALS_TRITON_PYTHON names no Python with tritonclient")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tritons_client_is_answered(protocol: str, server: tuple[Running, int]) -> None:
    """It needs another protobuf than the rest of the house, so it lives in an environment of its own."""
    address = server[0].url.removeprefix("http://") if protocol == "http" else f"127.0.0.1:{server[1]}"
    command = [os.environ["VERTICALS_TRITON_PYTHON"], str(Path(__file__).with_name("triton_client_calls.py")), protocol, address, "toy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "one answer" in done.stdout, done.stderr
