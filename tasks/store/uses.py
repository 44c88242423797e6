"""What a step of a flow takes and gives, noted as it happens: the graph of a run is drawn from that."""

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
    """Identities of the records that a step has taken and given so far."""

    taken: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)

    def take(self, *records: Record | str) -> None:
        self.taken |= {identity(record) for record in records}

    def give(self, *records: Record) -> None:
        self.given |= {identity(record) for record in records}


_current: ContextVar[Uses | None] = ContextVar("uses", default=None)


def identity(record: Record | str) -> str:
    """An artifact's digest, or that of a record's fields."""
    if isinstance(record, str):
        return record
    return record.digest if isinstance(record, Artifact) else digest_of(record.model_dump(mode="json"))


@contextmanager
def noted() -> Iterator[Uses]:
    """The uses of the store within the block."""
    uses = Uses()
    token = _current.set(uses)
    try:
        yield uses
    finally:
        _current.reset(token)


def current() -> Uses:
    """The uses of the step that runs; of none where no step does."""
    return _current.get() or Uses()
