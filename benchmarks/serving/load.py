"""A load generator with little overhead: several connections, each of which sends the next request as soon as it has an answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Load:
    """Requests per second, latencies in milliseconds, and number of failures."""

    rate: float
    p50: float
    p95: float
    failed: int


def request(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    lines = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def ask(port: int, requests: list[bytes], connections: int, seconds: float) -> Load:
    """Send `requests` in a cycle for some seconds, over several connections."""
    taken: list[float] = []
    failed = 0
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        place = number
        while time.perf_counter() < end:
            started = time.perf_counter()
            head, _ = await exchange(reader, writer, requests[place % len(requests)])
            taken.append(time.perf_counter() - started)
            place += connections
            failed += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(connections)))
    spent = time.perf_counter() - started
    p50, p95 = np.percentile(taken, (50, 95)) * 1e3
    return Load(len(taken) / spent, float(p50), float(p95), failed)


async def answers(port: int, requests: list[bytes]) -> list[bytes]:
    """The bodies of the answers to concurrent requests.

    Raises:
        OSError: a request was refused, or took longer than half a minute.
    """

    async def one(request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            head, body = await exchange(reader, writer, request)
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(f"port {port} answered {head.split(None, 2)[1].decode()}: {body.decode()}")
        return body

    async with asyncio.timeout(30):
        return await asyncio.gather(*(one(request) for request in requests))


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[bytes, bytes]:
    """Send a request; returns head and body of the answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)
