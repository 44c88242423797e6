"""Steady mixed traffic against a real server for a long time: `python -m benchmarks.serving.soak REPOSITORY --minutes 30`.

Tensors as JSON, as raw bytes and over gRPC, and the examples of the bundles, over persistent and new connections; occasionally an
explanation, a hot swap, an invalid request, and a client that disconnects. Every answer is checked. The response cache is small, so that
entries are evicted. The slope of memory is that of a line through the samples of the last two thirds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from benchmarks.serving.live import EXACT, LENGTH, Live, Sample, Valid, copied, read_answer, read_message, sampled, serving, valid_requests
from benchmarks.serving.load import request
from tasks.serving.messages import MESSAGES, SERVICE

OPTIONS = ("--cache_megabytes", "8")
VARIANTS = 16  # of the request of each model
ROW = 300.0  # seconds per row of the table
TIMEOUT_SECONDS = 60.0
PAUSE = 0.02  # mean seconds of a client between two requests
PICTURE = 500  # characters above which a string is an image, of which only the size is compared
SHARES = {"JSON": 30, "raw bytes": 30, "gRPC": 20, "example": 14, "refused": 3, "disconnected": 2, "explained": 0.3, "swapped": 0.2}


class Wrong(Exception):
    """A wrong answer."""


@dataclass
class Observed:
    """What the clients observed: answers (time, seconds, kind), failures (time, message), and counts by kind."""

    answers: list[tuple[float, float, str]] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


class Client:
    """Sends one request after the other, mostly on a persistent connection."""

    def __init__(self, live: Live, valid: Sequence[Valid], number: int) -> None:
        self.live, self.valid, self.random = live, valid, random.Random(number)
        self.kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{live.grpc_port}", [("grpc.max_receive_message_length", -1)])
        self.ways: dict[str, Callable[[Valid], Awaitable[None]]] = {
            "JSON": self.in_json, "raw bytes": self.in_binary, "gRPC": self.over_grpc, "example": self.example, "refused": self.refused,
            "disconnected": self.disconnected, "explained": self.explained, "swapped": self.swapped,
        }  # fmt: skip

    async def run(self, observed: Observed, began: float, end: float) -> None:
        while time.monotonic() < end:
            (way,) = self.random.choices(list(SHARES), list(SHARES.values()))
            started = time.monotonic()
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await self.ways[way](self.random.choice(self.valid))
                observed.answers.append((time.monotonic() - began, time.monotonic() - started, way))
            except (OSError, ValueError, EOFError, Wrong, KeyError, grpc.aio.AioRpcError) as error:
                await self.leave()
                observed.failures.append((time.monotonic() - began, f"{way}: {type(error).__name__}: {error}"[:300]))
            observed.kinds[way] += 1
            await asyncio.sleep(self.random.expovariate(1 / PAUSE))
        await self.leave()
        await self.channel.close()

    # -- kinds of requests------------------------------------------------------------------------------------------------
    async def in_json(self, one: Valid) -> None:
        self.check(one, *await self.ask(one.in_json()))

    async def in_binary(self, one: Valid) -> None:
        self.check(one, *await self.ask(one.in_binary()))

    async def over_grpc(self, one: Valid) -> None:
        read = MESSAGES["ModelInferResponse"].FromString
        call = self.channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=read)
        version, outputs = read_message(await call(one.message().SerializeToString(), timeout=TIMEOUT_SECONDS))
        if not one.right(version, outputs, one.tolerance):
            raise Wrong(f"{one.model} {version}")

    async def example(self, one: Valid) -> None:
        _, _, body = await self.ask(one.as_example())
        answer = json.loads(body)
        if answer.pop("model") != one.model or not alike(one.answers[answer.pop("version")], answer, one.tolerance):
            raise Wrong(f"{one.model}: {body[:200]!r}")

    async def refused(self, one: Valid) -> None:
        asked = self.random.choice(
            [request(one.path, b'{"inputs": []}'), request("/v2/models/none/infer", one.text), request(one.path, b"{")]
        )
        status, _, body = await self.ask(asked, {400, 404})
        if "error" not in json.loads(body):
            raise Wrong(f"{status} {body[:200]!r}")

    async def explained(self, one: Valid) -> None:
        status, _, body = await self.ask(one.as_example("?explain=true"), {200, 400, 503, 504})
        if (status == 200 and "explanation" not in json.loads(body)) or (status == 400 and b"explanations" not in body):
            raise Wrong(f"{status} {body[:200]!r}")

    async def disconnected(self, one: Valid) -> None:
        data = one.in_json()
        with contextlib.closing((await asyncio.open_connection("127.0.0.1", self.live.port))[1]) as writer:
            writer.write(data[: self.random.choice([len(data), self.random.randrange(len(data))])])
            await writer.drain()
            await asyncio.sleep(self.random.choice([0.0, 0.005, 0.05]))

    async def swapped(self, one: Valid) -> None:
        version = self.random.choice(list(one.outputs))
        asked = request(f"/v2/repository/models/{one.model}/load", json.dumps({"parameters": {"version": version}}).encode())
        await self.ask(asked)

    # -- one exchange -------------------------------------------------------------------------------------------------
    async def ask(self, data: bytes, expected: Sequence[int] | set[int] = (200,)) -> tuple[int, str | None, bytes]:
        """Send a request; returns status, length of the JSON part before raw bytes, and body. Raises `Wrong` for an unexpected status."""
        if self.random.random() < 0.2:
            await self.leave()
        if self.kept is None:
            self.kept = await asyncio.open_connection("127.0.0.1", self.live.port)
        reader, writer = self.kept
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.splitlines()[1:])}
        status, body = int(head.split()[1]), await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            await self.leave()
        if status not in expected:
            raise Wrong(f"{status} {body[:200]!r}")
        return status, headers.get(LENGTH.lower()), body

    async def leave(self) -> None:
        if self.kept is not None:
            self.kept[1].close()
            self.kept = None

    def check(self, one: Valid, status: int, length: str | None, body: bytes) -> None:
        version, outputs = read_answer(body, length)
        if not one.right(version, outputs, one.tolerance):
            raise Wrong(f"{one.model} {version}")


def alike(expected: Any, found: Any, tolerance: float) -> bool:
    """Whether two answers are equal up to a tolerance of numbers; with a large tolerance, lists may be in another order."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(alike(value, found[name], tolerance) for name, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and (
            tolerance > EXACT or all(alike(*pair, tolerance) for pair in zip(expected, found, strict=True))
        )
    if isinstance(expected, float) and isinstance(found, int | float):
        return abs(expected - found) <= tolerance * max(1.0, abs(expected))
    if isinstance(expected, str) and isinstance(found, str) and len(expected) > PICTURE:
        return abs(len(expected) - len(found)) < 0.05 * len(expected)
    return bool(expected == found)


# -- the table --------------------------------------------------------------------------------------------------------
def table(observed: Observed, samples: Sequence[Sample], seconds: float) -> Iterator[str]:
    yield f"{'minutes':>9} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'failures':>9} {'RSS MB':>8} {'threads':>8} {'files':>6}"
    start = 0.0
    while start < seconds:
        end = min(start + ROW, seconds)
        taken = [one for at, one, way in observed.answers if start <= at < end and way not in ("explained", "swapped", "disconnected")]
        p50, p99 = np.percentile(taken or [0.0], (50, 99)) * 1e3
        failed = sum(start <= at < end for at, _ in observed.failures)
        last = [one for one in samples if one.seconds < end][-1]
        minutes = f"{start / 60:.0f} to {end / 60:.3g}"
        yield (
            f"{minutes:>9} {len(taken) / (end - start):>11,.1f} {p50:>8.1f} {p99:>8.1f} {failed:>9} {last.megabytes:>8.1f} "
            f"{last.threads:>8} {last.files:>6}"
        )
        start += ROW
    yield ", ".join(f"{count:,} {way}" for way, count in observed.kinds.most_common())
    yield f"memory: {slope(samples):+.1f} MB per hour over the last two thirds, maximum {max(one.megabytes for one in samples):.1f} MB"


def slope(samples: Sequence[Sample]) -> float:
    """Slope of the memory in MB per hour over the last two thirds."""
    late = samples[len(samples) // 3 :]
    return float(np.polyfit([one.seconds for one in late], [one.megabytes for one in late], 1)[0]) * 3600


async def traffic(live: Live, valid: Sequence[Valid], clients: int, seconds: float) -> Observed:
    observed, began = Observed(), time.monotonic()
    await asyncio.gather(*(Client(live, valid, number).run(observed, began, began + seconds) for number in range(clients)))
    return observed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        repository = copied(options.repository, Path(scratch) / "repository", twice=True)
        valid = valid_requests(repository, VARIANTS)
        log = Path(scratch) / "log"
        with serving(repository, log, *OPTIONS) as live, sampled(live.process, 2.0) as samples:
            observed = asyncio.run(traffic(live, valid, options.clients, 60 * options.minutes))
            ended = live.process.poll()
        traces = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if '"trace"' in line]
    print("\n".join(table(observed, samples, 60 * options.minutes)))
    for message, count in Counter(message for _, message in observed.failures).most_common(10):
        print(f"FAILED {count} times: {message}")
    for line in traces[:3]:
        print(f"IN THE LOG: {line[:200]} ... {line[-300:]}")
    if ended is not None:
        print(f"The server ended with status {ended}.")
    return 1 if observed.failures or traces or ended is not None else 0


if __name__ == "__main__":
    sys.exit(main())
