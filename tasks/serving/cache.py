"""Answers that were given already: bounded in bytes, and asked for once however many wait for them."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress

import numpy as np

from tasks.contract.types import Arrays
from tasks.serving.refusals import DeadlineExceeded

OVERHEAD = 500  # bytes that an entry costs beside its arrays


class ResponseCache:
    """Outputs by their inputs, the least recently used forgotten first; lives in one event loop."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes, self.hits, self.misses = 0, 0, 0
        self._kept: OrderedDict[bytes, Arrays] = OrderedDict()
        self._asked: dict[bytes, asyncio.Future[Arrays]] = {}

    async def __call__(self, key: bytes, compute: Callable[[], Awaitable[Arrays]]) -> Arrays:
        """What was computed for this key; computed now where it is new. Nobody may change it. A failure is not kept."""
        while True:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return kept
            if key not in self._asked:
                break
            with suppress(_GaveUp):
                found = await asyncio.shield(self._asked[key])
                self.hits += 1
                return found
        self.misses += 1
        asked = self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            found = await compute()
        except BaseException as error:
            gave_up = isinstance(error, DeadlineExceeded) or not isinstance(error, Exception)
            asked.set_exception(_GaveUp() if gave_up else error)
            asked.exception()  # perhaps nobody else waits for it
            raise
        else:
            asked.set_result(found)
            self._keep(key, found)
            return found
        finally:
            del self._asked[key]

    def forget(self) -> None:
        self._kept.clear()
        self.bytes = 0

    def _keep(self, key: bytes, outputs: Arrays) -> None:
        size = _size(outputs)
        if size > self.most_bytes:
            return
        self._kept[key] = {name: array.copy() for name, array in outputs.items()}  # a view would keep its whole batch
        self.bytes += size
        while self.bytes > self.most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= _size(oldest)


class _GaveUp(Exception):
    """Who asked first did not wait for the answer: another one has to ask."""


def key_of(model: str, version: str, inputs: Arrays) -> bytes:
    """A digest of all that decides the outputs."""
    digest = hashlib.blake2b(f"{model}\0{version}".encode(), digest_size=20)
    for name, array in sorted(inputs.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _size(outputs: Arrays) -> int:
    return OVERHEAD + sum(array.nbytes for array in outputs.values())
