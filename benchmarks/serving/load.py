"""A client that costs little itself: several connections that each ask again as soon as they are answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Load:
    """Requests per second, and milliseconds that one took."""

    rate: float
    p50: float
    p95: float
    failed: int


def request(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    lines = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def ask(port: int, requests: list[bytes], connections: int, seconds: float) -> Load:
    """Go through `requests` from one end to the other, again and again."""
    taken: list[float] = []
    failed = 0
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        place = number
        while time.perf_counter() < end:
            started = time.perf_counter()
            writer.write(requests[place % len(requests)])
            place += connections
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            taken.append(time.perf_counter() - started)
            failed += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(connections)))
    spent = time.perf_counter() - started
    p50, p95 = np.percentile(taken, (50, 95)) * 1e3
    return Load(len(taken) / spent, float(p50), float(p95), failed)
