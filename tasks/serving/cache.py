"""A response cache with a limit in bytes; identical requests that arrive at the same time are computed once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress

import numpy as np

from tasks.contract.types import Arrays
from tasks.serving.refusals import DeadlineExceeded

OVERHEAD = 500  # bytes of an entry in addition to its arrays


class ResponseCache:
    """An LRU cache of outputs by a digest of their inputs; belongs to one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes, self.hits, self.misses = 0, 0, 0
        self._kept: OrderedDict[bytes, Arrays] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[Arrays]] = {}

    async def __call__(self, key: bytes, compute: Callable[[], Awaitable[Arrays]]) -> Arrays:
        """The cached outputs of a key, computed if they are not cached. They must not be modified. Failures are not cached."""
        while True:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return kept
            if key not in self._pending:
                break
            with suppress(_Cancelled):
                found = await asyncio.shield(self._pending[key])
                self.hits += 1
                return found
        self.misses += 1
        pending = self._pending[key] = asyncio.get_running_loop().create_future()
        try:
            found = await compute()
        except BaseException as error:
            cancelled = isinstance(error, DeadlineExceeded) or not isinstance(error, Exception)
            pending.set_exception(_Cancelled() if cancelled else error)
            pending.exception()  # marks it as retrieved: perhaps nobody else waits for it
            raise
        else:
            pending.set_result(found)
            self._keep(key, found)
            return found
        finally:
            del self._pending[key]

    def forget(self) -> None:
        self._kept.clear()
        self.bytes = 0

    def _keep(self, key: bytes, outputs: Arrays) -> None:
        size = _size(outputs)
        if size > self.max_bytes:
            return
        self._kept[key] = {name: array.copy() for name, array in outputs.items()}  # a view would keep its whole batch
        self.bytes += size
        while self.bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= _size(oldest)


class _Cancelled(Exception):
    """The request that computed the outputs was cancelled: another one has to compute them."""


def cache_key(model: str, version: str, inputs: Arrays) -> bytes:
    """A digest of everything that the outputs depend on.

    Args:
        model: name of the model.
        version: of the model.
        inputs: arrays by name.

    Returns:
        20 bytes.
    """
    digest = hashlib.blake2b(f"{model}\0{version}".encode(), digest_size=20)
    for name, array in sorted(inputs.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _size(outputs: Arrays) -> int:
    return OVERHEAD + sum(array.nbytes for array in outputs.values())
