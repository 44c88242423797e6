"""Requests that wait are run together, and nobody pays for a neighbour."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from tasks.contract.types import Arrays
from tasks.serving.batching import Batcher
from tasks.serving.cache import ResponseCache, cache_key
from tasks.serving.refusals import DeadlineExceeded, NotReady, TooManyRequests


def numbers(*values: float) -> Arrays:
    return {"x": np.array(values, dtype=np.float32)[:, None]}


class Doubling:
    """A session: doubles its input, remembers its batches, waits for `go`, and cannot bear negative numbers."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, inputs: Arrays) -> Arrays:
        self.go.wait(5)
        self.batches.append(inputs["x"].ravel().tolist())
        if (inputs["x"] < 0).any():
            raise RuntimeError("a negative number")
        return {"y": 2 * inputs["x"]}


def in_loop(test: Callable[[Doubling, Batcher], Awaitable[None]], **changes: Any) -> Doubling:
    session = Doubling()

    async def body() -> None:
        batcher = Batcher([session], **{"max_batch_size": 4, "max_queue_size": 8, **changes})
        await test(session, batcher)
        session.go.set()
        await batcher.close()

    asyncio.run(body())
    return session


async def begun(*work: Awaitable[Any]) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(one) for one in work]
    await asyncio.sleep(0)
    return tasks  # pyright: ignore[reportReturnType]


def test_what_waits_is_run_together_as_soon_as_a_session_is_free() -> None:
    async def test(session: Doubling, batcher: Batcher) -> None:
        session.go.clear()
        tasks = await begun(*(batcher(numbers(value)) for value in range(7)))
        session.go.set()
        assert [float(one["y"][0, 0]) for one in await asyncio.gather(*tasks)] == [0, 2, 4, 6, 8, 10, 12]

    assert in_loop(test).batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_requests_of_several_rows_and_of_other_shapes_keep_to_themselves() -> None:
    async def test(session: Doubling, batcher: Batcher) -> None:
        session.go.clear()
        wide = {"x": np.ones((1, 2), dtype=np.float32)}
        tasks = await begun(batcher(numbers(0)), batcher(numbers(1, 2)), batcher(wide), batcher(numbers(3, 4, 5)), batcher(numbers(6)))
        session.go.set()
        answers = await asyncio.gather(*tasks)
        assert [one["y"].shape for one in answers] == [(1, 1), (2, 1), (1, 2), (3, 1), (1, 1)]
        assert answers[3]["y"].ravel().tolist() == [6, 8, 10]

    assert in_loop(test).batches == [[0], [1, 2, 6], [1, 1], [3, 4, 5]]


def test_texts_of_similar_length_are_padded_and_run_together() -> None:
    """What is as long as the inputs is cut again; one that is much longer keeps to itself."""

    def tokens(count: int) -> Arrays:
        return {"x": np.arange(1, count + 1, dtype=np.float32)[None]}

    seen: list[np.ndarray] = []
    go = threading.Event()

    def session(inputs: Arrays) -> Arrays:
        go.wait(5)
        seen.append(inputs["x"])
        return {"each": 2 * inputs["x"], "sum": inputs["x"].sum(1, keepdims=True)}

    async def body() -> list[Arrays]:
        batcher = Batcher([session], 8, 16, padding={"x": 0}, padded=["each"])
        tasks = await begun(*(batcher(tokens(count)) for count in (3, 10, 12, 60, 20)))
        go.set()
        answers = await asyncio.gather(*tasks)
        await batcher.close()
        return answers

    answers = asyncio.run(body())
    assert [batch.shape for batch in seen] == [(1, 3), (2, 12), (1, 60), (1, 20)]
    for count, answer in zip((3, 10, 12, 60, 20), answers, strict=True):
        assert answer["each"].tolist() == [[2.0 * value for value in range(1, count + 1)]]
        assert answer["sum"].item() == count * (count + 1) / 2


def test_a_bad_request_fails_alone() -> None:
    async def test(session: Doubling, batcher: Batcher) -> None:
        session.go.clear()
        tasks = await begun(*(batcher(numbers(value)) for value in (0, 1, -1, 2)))
        session.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[2], RuntimeError)
        fine = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert [float(answer["y"][0, 0]) for answer in fine] == [0, 2, 4]

    in_loop(test)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    async def test(session: Doubling, batcher: Batcher) -> None:
        session.go.clear()
        tasks = await begun(*(batcher(numbers(value)) for value in range(3)))
        with pytest.raises(TooManyRequests, match="2 requests are queued already") as refused:
            await batcher(numbers(9))
        assert refused.value.retry_after and refused.value.retry_after > 0
        session.go.set()
        await asyncio.gather(*tasks)

    assert in_loop(test, max_queue_size=2).batches == [[0], [1, 2]]


def test_who_is_late_or_has_gone_is_not_computed_for() -> None:
    async def test(session: Doubling, batcher: Batcher) -> None:
        session.go.clear()
        first, late, gone, last = await begun(batcher(numbers(0)), batcher(numbers(1), 0.05), batcher(numbers(2)), batcher(numbers(3)))
        gone.cancel()
        with pytest.raises(DeadlineExceeded, match=r"within 0.05 s"):
            await late
        session.go.set()
        await asyncio.gather(first, last)

    assert in_loop(test).batches == [[0], [3]]


def test_closing_waits_for_what_was_taken_and_takes_nothing_new() -> None:
    async def test(session: Doubling, batcher: Batcher) -> None:
        session.go.clear()
        tasks = await begun(batcher(numbers(0)), batcher(numbers(1)))
        closing = (await begun(batcher.close()))[0]
        with pytest.raises(NotReady):
            await batcher(numbers(2))
        assert not closing.done()
        session.go.set()
        await closing
        assert all(task.done() for task in tasks)

    in_loop(test)


def test_several_sessions_run_at_once() -> None:
    both = threading.Barrier(2)

    def session(inputs: Arrays) -> Arrays:
        both.wait(5)  # breaks unless the other one runs, too
        return inputs

    async def body() -> None:
        batcher = Batcher([session, session], 1, 8)
        await asyncio.gather(batcher(numbers(1)), batcher(numbers(2)))
        await batcher.close()

    asyncio.run(body())


# -- the cache --------------------------------------------------------------------------------------------------------
class Counted:
    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.calls, self.gate = 0, gate

    async def __call__(self) -> Arrays:
        self.calls += 1
        if self.gate:
            await self.gate.wait()
        return numbers(self.calls)


async def waiting(cache: ResponseCache, compute: Counted) -> asyncio.Task[Arrays]:
    """A request for the answer to "a", which has come as far as it can."""
    task = asyncio.ensure_future(cache(b"a", compute))
    for _ in range(20):
        await asyncio.sleep(0)
    return task  # pyright: ignore[reportReturnType]


def test_what_many_ask_at_once_is_computed_once() -> None:
    async def body() -> None:
        gate = asyncio.Event()
        cache, compute = ResponseCache(10_000), Counted(gate)
        asked = [await waiting(cache, compute) for _ in range(5)]
        gate.set()
        answers = await asyncio.gather(*asked)
        assert compute.calls == 1 and all(answer["x"][0, 0] == 1 for answer in answers)
        assert (cache.hits, cache.misses) == (4, 1)

    asyncio.run(body())


def test_the_cache_is_bounded_in_bytes_and_forgets_the_oldest() -> None:
    async def body() -> None:
        cache, compute = ResponseCache(1_600), Counted()
        for key in (b"a", b"b", b"c", b"a", b"d"):  # each costs 504
            await cache(key, compute)
        assert cache.bytes <= 1_600 and compute.calls == 4
        await cache(b"a", compute)
        assert compute.calls == 4, "used lately, kept"
        await cache(b"b", compute)
        assert compute.calls == 5

    asyncio.run(body())


def test_a_failure_is_told_to_all_who_wait_and_not_kept() -> None:
    async def body() -> None:
        cache = ResponseCache(10_000)

        async def fail() -> Arrays:
            await asyncio.sleep(0.01)
            raise RuntimeError("no")

        answers = await asyncio.gather(*(cache(b"a", fail) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(answer, RuntimeError) for answer in answers)
        assert (await cache(b"a", Counted()))["x"][0, 0] == 1

    asyncio.run(body())


def test_where_the_first_gives_up_the_next_asks_anew() -> None:
    async def body() -> None:
        gate = asyncio.Event()
        cache, compute = ResponseCache(10_000), Counted(gate)
        first, second = await waiting(cache, compute), await waiting(cache, compute)
        first.cancel()
        gate.set()
        assert (await second)["x"][0, 0] == 2

    asyncio.run(body())


def test_the_key_tells_apart_all_that_decides() -> None:
    one = numbers(1, 2)
    keys = {
        cache_key("m", "1", one),
        cache_key("m", "2", one),
        cache_key("n", "1", one),
        cache_key("m", "1", {"x": one["x"].reshape(1, 2)}),
        cache_key("m", "1", {"x": one["x"].astype(np.float64)}),
        cache_key("m", "1", {"z": one["x"]}),
        cache_key("m", "1", numbers(1, 3)),
    }
    assert len(keys) == 7 and cache_key("m", "1", numbers(1, 2)) in keys
