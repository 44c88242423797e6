"""Requests that wait are run together: a free session takes all that fit and waits for no more (greedy, as Triton batches)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tasks.contract.types import Arrays, Predict
from tasks.serving.refusals import DeadlineExceeded, NotReady, TooManyRequests

Outcome = Arrays | Exception
LONGER, SHORT = (
    1.1,
    2,
)  # a request is run with another up to so many times as long, and so much more: on a CPU more padding costs more than batches save


class Watch(Protocol):
    """Is told of every batch that ran."""

    def __call__(self, rows: int, requests: int, queued: Sequence[float], computed: float) -> None:
        """How many rows of how many requests, the seconds that each request waited, and those of the computation."""
        ...


def unwatched(rows: int, requests: int, queued: Sequence[float], computed: float) -> None:
    return


@dataclass(eq=False)
class Waiting:
    """A request, and once it has run, when; in seconds of the monotonic clock."""

    inputs: Arrays
    deadline: float
    answer: asyncio.Future[Arrays]
    since: float = field(default_factory=time.monotonic)
    started: float = 0.0
    ended: float = 0.0
    together: int = 0  # rows of its batch

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))

    def kind(self, padding: Mapping[str, int]) -> tuple[object, ...]:
        """What must be equal for two requests to be run together, where the second axis of the inputs in `padding` may be filled up."""
        return tuple((name, array.dtype.str, array.shape[2 if name in padding else 1 :]) for name, array in self.inputs.items())

    def length(self, padding: Mapping[str, int]) -> int:
        return max((array.shape[1] for name, array in self.inputs.items() if name in padding), default=0)


class Batcher:
    """Runs requests on several sessions, each in a thread of its own; lives in one event loop.

    A request that fails in company is run again alone, so that nobody pays for a neighbour's fault.
    """

    def __init__(
        self,
        sessions: Sequence[Predict],
        most_rows: int,
        most_waiting: int,
        watch: Watch = unwatched,
        padding: Mapping[str, int] = {},
        padded: Collection[str] = (),
    ) -> None:
        """Args:
        sessions: each is called by one thread at a time.
        most_rows: of a batch; a request with more is run by itself.
        most_waiting: requests in the queue, beyond which new ones are refused.
        watch: told of every batch.
        padding: by input, what fills the second axis of a shorter request; only those of similar length are run together.
        padded: outputs whose second axis is as long as that of the inputs; of each request's only its own part is told.
        """
        self.padding, self.padded = padding, padded
        self.most_rows, self.most_waiting, self.watch = most_rows, most_waiting, watch
        self.ran: Callable[[Waiting], None] | None = None  # told of each request that ran, by who asked for it
        self._free = [(session, ThreadPoolExecutor(1, thread_name_prefix="session")) for session in sessions]
        self._pools = [pool for _, pool in self._free]
        self._queue: deque[Waiting] = deque()
        self._running = 0
        self._seconds = 0.0  # that a request takes, lately
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def __call__(self, inputs: Arrays, seconds: float = 0.0) -> Arrays:
        """The outputs of a request of one row or more, within `seconds`, or however long it takes.

        Raises:
            TooManyRequests: the queue is full.
            DeadlineExceeded: the time is over; if the request had not begun, it never does.
            NotReady: the batcher was closed.
        """
        if self._closed:
            raise NotReady("The model was unloaded.")
        if len(self._queue) >= self.most_waiting:
            raise TooManyRequests(
                f"{len(self._queue)} requests wait already: try again later.", max(0.05, self._seconds * len(self._queue))
            )
        deadline = time.monotonic() + seconds if seconds else float("inf")
        request = Waiting(inputs, deadline, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._idle.clear()
        self._dispatch()
        try:
            async with asyncio.timeout(seconds or None):
                outputs = await request.answer
        except TimeoutError:
            raise DeadlineExceeded(f"The answer was not there within {seconds:g} s.") from None
        if self.ran:
            self.ran(request)
        return outputs

    async def close(self) -> None:
        """Take nothing new, and wait for what was taken."""
        self._closed = True
        await self._idle.wait()
        for pool in self._pools:
            pool.shutdown(wait=False)

    # -- in the event loop --------------------------------------------------------------------------------------------
    def _dispatch(self) -> None:
        while self._free and (batch := self._next()):
            session, pool = self._free.pop()
            self._running += 1
            started = time.monotonic()
            running = pool.submit(run, session, [request.inputs for request in batch], self.padding, self.padded)
            loop = asyncio.get_running_loop()
            finished = _later(loop, self._finished, session, pool, batch, started)
            running.add_done_callback(finished)

    def _next(self) -> list[Waiting]:
        """The oldest request that is still waited for, and those after it that can be run with it."""
        now = time.monotonic()
        while self._queue and (self._queue[0].answer.done() or self._queue[0].deadline < now):
            self._queue.popleft()
        if not self._queue:
            return []
        first = self._queue.popleft()
        batch, rows, left = [first], first.rows, deque[Waiting]()
        kind, length = first.kind(self.padding), first.length(self.padding)
        while self._queue and rows < self.most_rows:
            other = self._queue.popleft()
            if other.answer.done() or other.deadline < now:
                continue
            fits = rows + other.rows <= self.most_rows and other.kind(self.padding) == kind
            if fits and similar(length, other.length(self.padding)):
                batch.append(other)
                rows += other.rows
            else:
                left.append(other)
        self._queue.extendleft(reversed(left))
        return batch

    def _finished(
        self, session: Predict, pool: ThreadPoolExecutor, batch: list[Waiting], started: float, done: Future[list[Outcome]]
    ) -> None:
        self._free.append((session, pool))
        self._running -= 1
        ended, rows = time.monotonic(), sum(request.rows for request in batch)
        computed = ended - started
        self._seconds = 0.9 * self._seconds + 0.1 * computed / len(batch)
        for request, outcome in zip(batch, done.result(), strict=True):
            request.started, request.ended, request.together = started, ended, rows
            if request.answer.done():
                continue
            if isinstance(outcome, Exception):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome)
        self.watch(rows, len(batch), [started - request.since for request in batch], computed)
        self._dispatch()
        if not self._running and not self._queue:
            self._idle.set()


def _later(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *known: object) -> Callable[[Future[list[Outcome]]], None]:
    """A callback for another thread that has `call` called in the loop."""

    def back(done: Future[list[Outcome]]) -> None:
        loop.call_soon_threadsafe(call, *known, done)

    return back


def similar(one: int, other: int) -> bool:
    """Whether two lengths are so near that little of the shorter would be padding."""
    return max(one, other) <= LONGER * min(one, other) + SHORT


def run(session: Predict, requests: Sequence[Arrays], padding: Mapping[str, int], padded: Collection[str]) -> list[Outcome]:
    """The outputs of each request, or why it failed; together where they can be."""
    try:
        if len(requests) == 1:
            return [session(requests[0])]
        together = session({name: joined([one[name] for one in requests], padding.get(name)) for name in requests[0]})
    except Exception as error:
        return [error] if len(requests) == 1 else [run(session, [one], padding, padded)[0] for one in requests]
    ends = np.cumsum([len(next(iter(one.values()))) for one in requests])[:-1]
    parts = {name: np.split(array, ends) for name, array in together.items()}
    found = [{name: parts[name][place] for name in parts} for place in range(len(requests))]
    for outputs, inputs in zip(found, requests, strict=True):
        length = max((array.shape[1] for name, array in inputs.items() if name in padding), default=0)
        outputs.update({name: outputs[name][:, :length] for name in padded})
    return found  # pyright: ignore[reportReturnType]


def joined(arrays: Sequence[np.ndarray], fill: int | None) -> np.ndarray:
    """One below the other; with a `fill`, the second axis as long as the longest."""
    if fill is None:
        return np.concatenate(arrays)
    whole = np.full((sum(map(len, arrays)), max(array.shape[1] for array in arrays), *arrays[0].shape[2:]), fill, dtype=arrays[0].dtype)
    row = 0
    for array in arrays:
        whole[row : row + len(array), : array.shape[1]] = array
        row += len(array)
    return whole
