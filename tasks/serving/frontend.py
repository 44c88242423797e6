"""What the HTTP and the gRPC front end share: who may ask, how much and for how long, and what is recorded of each request."""

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
from tasks.serving.guard import Client, Guard, key_in, read_keys
from tasks.serving.logs import note
from tasks.serving.metrics import Metrics
from tasks.serving.models import Models, Version
from tasks.serving.refusals import ClientDisconnected, Refusal, TooLarge
from tasks.serving.settings import Serving
from tasks.serving.tensors import Inference, check_numbers, inflated, read_inference, write_answer
from tasks.serving.tracing import Traces

LARGE = 200_000  # bytes that are read or written within a millisecond or so


class Server:
    """All that the routes share."""

    def __init__(self, repository: Path, settings: Serving) -> None:
        self.settings = settings
        self.models = Models(repository, settings)
        self.metrics = Metrics(self.models)
        self.traces = Traces(settings.traces, settings.traces_share) if settings.traces else None
        if self.traces:
            self.models.on_opening.append(self._traced)
        self.guard = Guard(read_keys(Path(settings.keys)) if settings.keys else None, settings.requests_per_second)
        self.most = round(settings.max_megabytes * 1e6)

    def credentials(self) -> Any:
        """For gRPC with TLS."""
        import grpc

        pair = Path(self.settings.certificate_key).read_bytes(), Path(self.settings.certificate).read_bytes()
        return grpc.ssl_server_credentials([pair])

    def _traced(self, version: Version) -> None:
        assert self.traces is not None
        version.batcher.ran = self.traces.ran

    # -- a request ----------------------------------------------------------------------------------------------------
    def admit(self, request: Request, model: str = "") -> Client:
        return self.guard.admit(key_in(request.headers), request.client.host if request.client else "", model)

    async def body(self, request: Request) -> bytes:
        """Raises `TooLarge`, before more than is allowed has been read."""
        words = f"The body is larger than the {self.most:,} bytes that are read (--max_megabytes)."
        told = request.headers.get("content-length", "0")
        if told.isdecimal() and int(told) > self.most:
            raise TooLarge(words)
        parts, read = [], 0
        try:
            async for part in request.stream():
                read += len(part)
                if read > self.most:
                    raise TooLarge(words)
                parts.append(part)
        except ClientDisconnect:
            raise ClientDisconnected("The client went away.") from None
        return inflated(b"".join(parts), request.headers.get("content-encoding", "").strip().lower(), self.most)

    async def read(self, body: bytes, json_length: int | None) -> Inference:
        """The tensors of a body; a large one is read in a thread, so that others are not kept waiting."""

        def read() -> Inference:
            asked = read_inference(body, json_length)
            check_numbers(asked.inputs)
            return asked

        return read() if len(body) < LARGE else await self.models.in_thread(read)

    async def written(self, served: Version, asked: Inference, outputs: Arrays) -> tuple[bytes, int | None]:
        def write() -> tuple[bytes, int | None]:
            return write_answer(served.model, served.version, asked, outputs)

        return write() if sum(array.nbytes for array in outputs.values()) < LARGE else await self.models.in_thread(write)

    def seconds(self, request: Request, microseconds: object = None) -> float:
        """That the answer may take: what the request says, but no more than the settings."""
        asked = request.headers.get("x-deadline-ms")
        microseconds = microseconds if isinstance(microseconds, str | int | float) else "none" if microseconds else None
        try:
            seconds = float(asked) / 1e3 if asked else float(str(microseconds)) / 1e6 if microseconds else float("inf")
        except ValueError:
            raise Refusal("The deadline is no number: X-Deadline-Ms counts milliseconds, the parameter timeout microseconds.") from None
        if not seconds > 0:
            raise Refusal("The deadline is over before it began.")
        return min(seconds, self.settings.deadline_seconds)


@contextlib.contextmanager
def record_request(server: Server, served: Version, protocol_name: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Count, trace and log what became of a request."""
    started, status = time.perf_counter(), 200
    which: dict[str, Any] = {"model": served.model, "version": served.version, "protocol": protocol_name}
    tracing = server.traces.request("predict" if protocol_name == "v1" else "infer", headers, **which) if server.traces else None
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
                note("request", level, **which, status=status, milliseconds=round(1e3 * seconds, 3))
