"""What the HTTP and gRPC front ends share: authentication, limits of size and time, metrics, traces and logs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from tasks.contract.errors import UserError
from tasks.contract.types import Arrays
from tasks.serving.guard import Client, Guard, api_key, read_keys
from tasks.serving.logs import log_event
from tasks.serving.metrics import Metrics
from tasks.serving.models import Models, Version
from tasks.serving.refusals import ClientDisconnected, Refusal, TooLarge
from tasks.serving.settings import Serving
from tasks.serving.tensors import InferRequest, check_finite, decompress, read_request, write_response
from tasks.serving.tracing import Traces

LARGE = 200_000  # bytes; smaller bodies are read or written within about a millisecond


class Server:
    """The state that all routes share."""

    def __init__(self, repository: Path, settings: Serving) -> None:
        self.settings = settings
        self.models = Models(repository, settings)
        self.metrics = Metrics(self.models)
        self.traces = Traces(settings.traces, settings.traces_share) if settings.traces else None
        if self.traces:
            self.models.on_open.append(self._traced)
        self.guard = Guard(read_keys(Path(settings.keys)) if settings.keys else None, settings.requests_per_second)
        self.max_body_bytes = round(settings.max_megabytes * 1e6)

    def credentials(self) -> Any:
        """The TLS credentials of the gRPC server."""
        import grpc

        pair = Path(self.settings.certificate_key).read_bytes(), Path(self.settings.certificate).read_bytes()
        return grpc.ssl_server_credentials([pair])

    def _traced(self, version: Version) -> None:
        assert self.traces is not None
        version.batcher.on_request = self.traces.record

    # -- a request ----------------------------------------------------------------------------------------------------
    def admit(self, request: Request, model: str = "") -> Client:
        return self.guard.admit(api_key(request.headers), request.client.host if request.client else "", model)

    async def body(self, request: Request) -> bytes:
        """The decompressed body. Raises `TooLarge` before more than `--max_megabytes` have been read."""
        too_large = f"The body is larger than {self.max_body_bytes:,} bytes, the limit of --max_megabytes."
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.max_body_bytes:
            raise TooLarge(too_large)
        parts, read = [], 0
        try:
            async for part in request.stream():
                read += len(part)
                if read > self.max_body_bytes:
                    raise TooLarge(too_large)
                parts.append(part)
        except ClientDisconnect:
            raise ClientDisconnected("The client disconnected.") from None
        return decompress(b"".join(parts), request.headers.get("content-encoding", "").strip().lower(), self.max_body_bytes)

    async def read(self, body: bytes, json_length: int | None) -> InferRequest:
        """The tensors of a body; a large body is read in a thread, so that the event loop is not blocked."""

        def read() -> InferRequest:
            infer_request = read_request(body, json_length)
            check_finite(infer_request.inputs)
            return infer_request

        return read() if len(body) < LARGE else await self.models.run_in_thread(read)

    async def written(self, served: Version, infer_request: InferRequest, outputs: Arrays) -> tuple[bytes, int | None]:
        """The body of the response; a large one is written in a thread, so that the event loop is not blocked.

        Args:
            served: the version that computed the outputs.
            infer_request: names the outputs and their format.
            outputs: arrays by name.

        Returns:
            The body, and the length of its JSON part if raw bytes follow it.
        """

        def write() -> tuple[bytes, int | None]:
            return write_response(served.model, served.version, infer_request, outputs)

        return write() if sum(array.nbytes for array in outputs.values()) < LARGE else await self.models.run_in_thread(write)

    def seconds(self, request: Request, microseconds: object = None) -> float:
        """The time limit of a request in seconds: that of the request, but at most `deadline_seconds` of the settings."""
        milliseconds = request.headers.get("x-deadline-ms")
        microseconds = microseconds if isinstance(microseconds, str | int | float) else "none" if microseconds else None
        try:
            seconds = float(milliseconds) / 1e3 if milliseconds else float(str(microseconds)) / 1e6 if microseconds else float("inf")
        except ValueError:
            raise Refusal(
                "The deadline is not a number: X-Deadline-Ms is in milliseconds, the parameter timeout in microseconds."
            ) from None
        if not seconds > 0:
            raise Refusal("The deadline has to be above 0.")
        return min(seconds, self.settings.deadline_seconds)


@contextlib.contextmanager
def record_request(server: Server, served: Version, protocol_name: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Record metrics, a trace and a log line of the request that is handled in the context.

    Args:
        server: has the metrics, traces and settings.
        served: the version that answers.
        protocol_name: v1, v2 or grpc.
        headers: of the request, names in lower case; they may carry a trace context.

    Yields:
        Nothing.
    """
    started, status = time.perf_counter(), 200
    labels: dict[str, Any] = {"model": served.model, "version": served.version, "protocol": protocol_name}
    tracing = server.traces.request("predict" if protocol_name == "v1" else "infer", headers, **labels) if server.traces else None
    with tracing or contextlib.nullcontext() as span:
        try:
            yield
        except UserError as error:
            status = error.status if isinstance(error, Refusal) else 400
            raise
        except asyncio.CancelledError:
            status = ClientDisconnected.status
            raise
        except BaseException:
            status = 500
            raise
        finally:
            seconds = time.perf_counter() - started
            server.metrics.answered(served.model, served.version, protocol_name, status, seconds)
            if span is not None:
                span.set_attribute("http.response.status_code", status)
            if status >= 500 or random.random() < server.settings.log_share:
                level = logging.ERROR if status >= 500 else logging.INFO
                log_event("request", level, **labels, status=status, milliseconds=round(1e3 * seconds, 3))
