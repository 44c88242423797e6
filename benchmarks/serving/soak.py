"""Steady mixed traffic against a real server for a long time: `python -m benchmarks.serving.soak REPOSITORY --minutes 30`.

Tensors as JSON, as raw bytes and over gRPC, and the bundles' own examples in words, over kept and new connections; now and then an
explanation, a hot swap, a request that must be refused, and a client that hangs up. Every answer is checked. The cache is small, so that
answers are both remembered and forgotten. Memory's slope is that of a line through its samples of the last two thirds.
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
VARIANTS = 16  # of each model's request
ROW = 300.0  # seconds of a row of the table
PATIENCE = 60.0
REST = 0.02  # seconds of a client between two requests, on average
PICTURE = 500  # characters of a text from which on it is a picture, and only its size is compared
SHARES = {"JSON": 30, "raw bytes": 30, "gRPC": 20, "in words": 14, "refused": 3, "hung up": 2, "explained": 0.3, "swapped": 0.2}


class Wrong(Exception):
    """An answer that should be another."""


@dataclass
class Told:
    """What clients saw: when an answer was there, in how many seconds, and of which kind; and the failures in words."""

    answers: list[tuple[float, float, str]] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


class Client:
    """Asks one thing after the other; on a kept connection mostly, else on a new one."""

    def __init__(self, live: Live, valid: Sequence[Valid], number: int) -> None:
        self.live, self.valid, self.random = live, valid, random.Random(number)
        self.kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{live.grpc_port}", [("grpc.max_receive_message_length", -1)])
        self.ways: dict[str, Callable[[Valid], Awaitable[None]]] = {
            "JSON": self.in_json, "raw bytes": self.in_binary, "gRPC": self.over_grpc, "in words": self.in_words, "refused": self.refused,
            "hung up": self.hung_up, "explained": self.explained, "swapped": self.swapped,
        }  # fmt: skip

    async def run(self, told: Told, began: float, end: float) -> None:
        while time.monotonic() < end:
            (way,) = self.random.choices(list(SHARES), list(SHARES.values()))
            started = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.ways[way](self.random.choice(self.valid))
                told.answers.append((time.monotonic() - began, time.monotonic() - started, way))
            except (OSError, ValueError, EOFError, Wrong, KeyError, grpc.aio.AioRpcError) as error:
                await self.leave()
                told.failures.append((time.monotonic() - began, f"{way}: {type(error).__name__}: {error}"[:300]))
            told.kinds[way] += 1
            await asyncio.sleep(self.random.expovariate(1 / REST))
        await self.leave()
        await self.channel.close()

    # -- ways to ask --------------------------------------------------------------------------------------------------
    async def in_json(self, one: Valid) -> None:
        self.check(one, *await self.ask(one.in_json()))

    async def in_binary(self, one: Valid) -> None:
        self.check(one, *await self.ask(one.in_binary()))

    async def over_grpc(self, one: Valid) -> None:
        read = MESSAGES["ModelInferResponse"].FromString
        call = self.channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=read)
        version, outputs = read_message(await call(one.message().SerializeToString(), timeout=PATIENCE))
        if not one.right(version, outputs, one.company):
            raise Wrong(f"{one.model} {version}")

    async def in_words(self, one: Valid) -> None:
        _, _, body = await self.ask(one.in_words())
        answer = json.loads(body)
        if answer.pop("model") != one.model or not alike(one.words[answer.pop("version")], answer, one.company):
            raise Wrong(f"{one.model}: {body[:200]!r}")

    async def refused(self, one: Valid) -> None:
        asked = self.random.choice(
            [request(one.path, b'{"inputs": []}'), request("/v2/models/none/infer", one.text), request(one.path, b"{")]
        )
        status, _, body = await self.ask(asked, {400, 404})
        if "error" not in json.loads(body):
            raise Wrong(f"{status} {body[:200]!r}")

    async def explained(self, one: Valid) -> None:
        status, _, body = await self.ask(one.in_words("?explain=true"), {200, 400, 503, 504})
        if (status == 200 and "explanation" not in json.loads(body)) or (status == 400 and b"explain" not in body):
            raise Wrong(f"{status} {body[:200]!r}")

    async def hung_up(self, one: Valid) -> None:
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
        """Status, length of the JSON before raw bytes, and body; raises `Wrong` for another status."""
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
        if not one.right(version, outputs, one.company):
            raise Wrong(f"{one.model} {version}")


def alike(known: Any, found: Any, tolerance: float) -> bool:
    """Whether two answers in words say the same, but for numbers that are near; those that are not so near may be in another order."""
    if isinstance(known, dict) and isinstance(found, dict):
        return known.keys() == found.keys() and all(alike(value, found[name], tolerance) for name, value in known.items())
    if isinstance(known, list) and isinstance(found, list):
        return len(known) == len(found) and (tolerance > EXACT or all(alike(*pair, tolerance) for pair in zip(known, found, strict=True)))
    if isinstance(known, float) and isinstance(found, int | float):
        return abs(known - found) <= tolerance * max(1.0, abs(known))
    if isinstance(known, str) and isinstance(found, str) and len(known) > PICTURE:
        return abs(len(known) - len(found)) < 0.05 * len(known)
    return bool(known == found)


# -- what is told -----------------------------------------------------------------------------------------------------
def table(told: Told, samples: Sequence[Sample], seconds: float) -> Iterator[str]:
    yield f"{'minutes':>9} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'failures':>9} {'RSS MB':>8} {'threads':>8} {'files':>6}"
    start = 0.0
    while start < seconds:
        end = min(start + ROW, seconds)
        taken = [one for at, one, way in told.answers if start <= at < end and way not in ("explained", "swapped", "hung up")]
        p50, p99 = np.percentile(taken or [0.0], (50, 99)) * 1e3
        failed = sum(start <= at < end for at, _ in told.failures)
        last = [one for one in samples if one.seconds < end][-1]
        minutes = f"{start / 60:.0f} to {end / 60:.3g}"
        yield (
            f"{minutes:>9} {len(taken) / (end - start):>11,.1f} {p50:>8.1f} {p99:>8.1f} {failed:>9} {last.megabytes:>8.1f} "
            f"{last.threads:>8} {last.files:>6}"
        )
        start += ROW
    yield ", ".join(f"{count:,} {way}" for way, count in told.kinds.most_common())
    yield f"memory: {slope(samples):+.1f} MB an hour over the last two thirds, {max(one.megabytes for one in samples):.1f} MB at most"


def slope(samples: Sequence[Sample]) -> float:
    """MB an hour over the last two thirds."""
    late = samples[len(samples) // 3 :]
    return float(np.polyfit([one.seconds for one in late], [one.megabytes for one in late], 1)[0]) * 3600


async def traffic(live: Live, valid: Sequence[Valid], clients: int, seconds: float) -> Told:
    told, began = Told(), time.monotonic()
    await asyncio.gather(*(Client(live, valid, number).run(told, began, began + seconds) for number in range(clients)))
    return told


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
            told = asyncio.run(traffic(live, valid, options.clients, 60 * options.minutes))
            ended = live.process.poll()
        traces = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if '"trace"' in line]
    print("\n".join(table(told, samples, 60 * options.minutes)))
    for words, count in Counter(words for _, words in told.failures).most_common(10):
        print(f"FAILED {count} times: {words}")
    for line in traces[:3]:
        print(f"IN THE LOG: {line[:200]} ... {line[-300:]}")
    if ended is not None:
        print(f"The server ended with {ended}.")
    return 1 if told.failures or traces or ended is not None else 0


if __name__ == "__main__":
    sys.exit(main())
