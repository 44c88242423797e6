"""Dynamic batching: a free session takes all queued requests that fit, without waiting for more (greedy, as in Triton)."""

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
MAX_LENGTH_RATIO, LENGTH_SLACK = 1.1, 2
"""Two requests are batched if the longer is at most this ratio times the shorter plus the slack. On a CPU, more padding costs more time
than batching saves."""


class BatchCallback(Protocol):
    """A function that is called after every batch."""

    def __call__(self, rows: int, requests: int, queued: Sequence[float], computed: float) -> None:
        """Record a batch.

        Args:
            rows: number of rows in the batch.
            requests: number of requests in the batch.
            queued: seconds that each request spent in the queue.
            computed: seconds of the computation.
        """
        ...


def _ignore_batch(rows: int, requests: int, queued: Sequence[float], computed: float) -> None:
    return


@dataclass(eq=False)
class QueuedRequest:
    """A request in the queue. Times are seconds of the monotonic clock."""

    inputs: Arrays
    deadline: float
    answer: asyncio.Future[Arrays]
    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    ended: float = 0.0
    batch_rows: int = 0  # of the batch in which it ran

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))

    def kind(self, padding: Mapping[str, int]) -> tuple[object, ...]:
        """A key that is equal for requests that can share a batch; the second axis of the inputs in `padding` can be padded."""
        return tuple((name, array.dtype.str, array.shape[2 if name in padding else 1 :]) for name, array in self.inputs.items())

    def length(self, padding: Mapping[str, int]) -> int:
        return max((array.shape[1] for name, array in self.inputs.items() if name in padding), default=0)


class Batcher:
    """Runs requests in batches on several sessions, each in its own thread; belongs to one event loop.

    If a batch fails, each of its requests is run again alone, so that one bad request does not fail the others.
    """

    def __init__(
        self,
        sessions: Sequence[Predict],
        max_batch_size: int,
        max_queue_size: int,
        on_batch: BatchCallback = _ignore_batch,
        padding: Mapping[str, int] = {},
        padded: Collection[str] = (),
    ) -> None:
        """Args:
        sessions: functions that compute; each is called by one thread at a time.
        max_batch_size: maximum number of rows in a batch; a larger request runs alone.
        max_queue_size: maximum number of requests in the queue; further requests are refused.
        on_batch: called after every batch.
        padding: value that pads the second axis, by name of the input; only requests of similar length share a batch.
        padded: names of outputs whose second axis is as long as that of the inputs; it is cut back to the length of each request.
        """
        self.padding, self.padded = padding, padded
        self.max_batch_size, self.max_queue_size, self.on_batch = max_batch_size, max_queue_size, on_batch
        self.on_request: Callable[[QueuedRequest], None] | None = None  # called after each request, in the context of its caller
        self._free = [(session, ThreadPoolExecutor(1, thread_name_prefix="session")) for session in sessions]
        self._pools = [pool for _, pool in self._free]
        self._queue: deque[QueuedRequest] = deque()
        self._running = 0
        self._seconds = 0.0  # per request: moving average
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def __call__(self, inputs: Arrays, seconds: float = 0.0) -> Arrays:
        """The outputs of a request of one row or more.

        Args:
            inputs: arrays by name, each with a batch axis.
            seconds: time limit; 0: none.

        Raises:
            TooManyRequests: the queue is full.
            DeadlineExceeded: the time limit is over; a request that is still in the queue is dropped.
            NotReady: the batcher was closed.
        """
        if self._closed:
            raise NotReady("The model was unloaded.")
        if len(self._queue) >= self.max_queue_size:
            raise TooManyRequests(
                f"{len(self._queue)} requests are queued already: try again later.", max(0.05, self._seconds * len(self._queue))
            )
        deadline = time.monotonic() + seconds if seconds else float("inf")
        request = QueuedRequest(inputs, deadline, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._idle.clear()
        self._dispatch()
        try:
            async with asyncio.timeout(seconds or None):
                outputs = await request.answer
        except TimeoutError:
            raise DeadlineExceeded(f"The answer was not ready within {seconds:g} s.") from None
        if self.on_request:
            self.on_request(request)
        return outputs

    async def close(self) -> None:
        """Refuse new requests, and wait until the accepted ones are answered."""
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

    def _next(self) -> list[QueuedRequest]:
        """The oldest request that somebody still waits for, and those after it that can share its batch."""
        now = time.monotonic()
        while self._queue and (self._queue[0].answer.done() or self._queue[0].deadline < now):
            self._queue.popleft()
        if not self._queue:
            return []
        first = self._queue.popleft()
        batch, rows, left = [first], first.rows, deque[QueuedRequest]()
        kind, length = first.kind(self.padding), first.length(self.padding)
        while self._queue and rows < self.max_batch_size:
            other = self._queue.popleft()
            if other.answer.done() or other.deadline < now:
                continue
            fits = rows + other.rows <= self.max_batch_size and other.kind(self.padding) == kind
            if fits and similar_lengths(length, other.length(self.padding)):
                batch.append(other)
                rows += other.rows
            else:
                left.append(other)
        self._queue.extendleft(reversed(left))
        return batch

    def _finished(
        self, session: Predict, pool: ThreadPoolExecutor, batch: list[QueuedRequest], started: float, done: Future[list[Outcome]]
    ) -> None:
        self._free.append((session, pool))
        self._running -= 1
        ended, rows = time.monotonic(), sum(request.rows for request in batch)
        computed = ended - started
        self._seconds = 0.9 * self._seconds + 0.1 * computed / len(batch)
        for request, outcome in zip(batch, done.result(), strict=True):
            request.started, request.ended, request.batch_rows = started, ended, rows
            if request.answer.done():
                continue
            if isinstance(outcome, Exception):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome)
        self.on_batch(rows, len(batch), [started - request.arrived for request in batch], computed)
        self._dispatch()
        if not self._running and not self._queue:
            self._idle.set()


def _later(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> Callable[[Future[list[Outcome]]], None]:
    """A callback for another thread, which schedules `call` in the event loop."""

    def back(done: Future[list[Outcome]]) -> None:
        loop.call_soon_threadsafe(call, *arguments, done)

    return back


def similar_lengths(one: int, other: int) -> bool:
    """Whether the shorter of two requests would need little padding."""
    return max(one, other) <= MAX_LENGTH_RATIO * min(one, other) + LENGTH_SLACK


def run(session: Predict, requests: Sequence[Arrays], padding: Mapping[str, int], padded: Collection[str]) -> list[Outcome]:
    """Run requests as one batch; if it fails, run each alone.

    Args:
        session: the function that computes.
        requests: inputs of each request, with the same names.
        padding: value that pads the second axis, by name of the input.
        padded: names of outputs whose second axis is cut back to the length of each request.

    Returns:
        The outputs of each request, or the exception with which it failed.
    """
    try:
        if len(requests) == 1:
            return [session(requests[0])]
        together = session({name: pad_and_concatenate([one[name] for one in requests], padding.get(name)) for name in requests[0]})
    except Exception as error:
        return [error] if len(requests) == 1 else [run(session, [one], padding, padded)[0] for one in requests]
    ends = np.cumsum([len(next(iter(one.values()))) for one in requests])[:-1]
    parts = {name: np.split(array, ends) for name, array in together.items()}
    found = [{name: parts[name][place] for name in parts} for place in range(len(requests))]
    for outputs, inputs in zip(found, requests, strict=True):
        length = max((array.shape[1] for name, array in inputs.items() if name in padding), default=0)
        outputs.update({name: outputs[name][:, :length] for name in padded})
    return found  # pyright: ignore[reportReturnType]


def pad_and_concatenate(arrays: Sequence[np.ndarray], fill: int | None) -> np.ndarray:
    """Concatenate along the first axis; with `fill`, pad the second axis to the longest array."""
    if fill is None:
        return np.concatenate(arrays)
    whole = np.full((sum(map(len, arrays)), max(array.shape[1] for array in arrays), *arrays[0].shape[2:]), fill, dtype=arrays[0].dtype)
    row = 0
    for array in arrays:
        whole[row : row + len(array), : array.shape[1]] = array
        row += len(array)
    return whole
