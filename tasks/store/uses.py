"""The records that each step of a flow reads and returns, recorded during the run; the graph of the run is drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tasks.contract.artifacts import Artifact
from tasks.contract.records import Record
from tasks.store.digests import digest_of


@dataclass
class Uses:
    """Identities of the records that a step has read (taken) and returned (given) so far."""

    taken: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)

    def take(self, *records: Record | str) -> None:
        self.taken |= {identity(record) for record in records}

    def give(self, *records: Record) -> None:
        self.given |= {identity(record) for record in records}


_current: ContextVar[Uses | None] = ContextVar("uses", default=None)


def identity(record: Record | str) -> str:
    """The digest of an artifact, or of the fields of another record."""
    if isinstance(record, str):
        return record
    return record.digest if isinstance(record, Artifact) else digest_of(record.model_dump(mode="json"))


@contextmanager
def noted() -> Iterator[Uses]:
    """Record the uses of the store within the block."""
    uses = Uses()
    token = _current.set(uses)
    try:
        yield uses
    finally:
        _current.reset(token)


def current() -> Uses:
    """The uses of the current step; outside of a step they are discarded."""
    return _current.get() or Uses()
