"""Ordered events of people, the rules that thin them, and the cuts into training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings

if TYPE_CHECKING:
    from usecases.recommendation import Recommendation


@dataclass(frozen=True)
class Sequences:
    """Events in one array, sequence after sequence: sequence s holds `offsets[s]` to `offsets[s + 1]`."""

    items: np.ndarray  # int [events]
    times: np.ndarray  # float64 [events], seconds
    chosen: np.ndarray  # bool [events], by action
    offsets: np.ndarray  # int64 [sequences + 1]
    users: np.ndarray  # int [sequences]
    timed: bool

    @property
    def people(self) -> int:
        return len(self.offsets) - 1

    @property
    def owner(self) -> np.ndarray:
        """The sequence of each event, int64 [events]."""
        return np.repeat(np.arange(self.people), np.diff(self.offsets))

    def only(self, kept: np.ndarray) -> Sequences:
        """The events where `kept` is true; sequences that lose all of theirs go too."""
        counts = np.bincount(self.owner[kept], minlength=self.people)
        alive = counts > 0
        offsets = np.concatenate([[0], np.cumsum(counts[alive])])
        return Sequences(self.items[kept], self.times[kept], self.chosen[kept], offsets, self.users[alive], self.timed)

    def with_items(self, items: np.ndarray) -> Sequences:
        return replace(self, items=items)


def without_repeats(sequences: Sequences, repeats: str, findings: Findings) -> Sequences:
    """`consecutive`: an item that follows itself counts once; `first`: only the first event of an item counts."""
    if repeats == "keep":
        return sequences
    owner, items = sequences.owner, sequences.items
    if repeats == "consecutive":
        kept = np.concatenate([[True], (owner[1:] != owner[:-1]) | (items[1:] != items[:-1])])
    else:
        _, first = np.unique(owner.astype(np.int64) * (int(items.max()) + 1) + items, return_index=True)
        kept = np.zeros(len(items), bool)
        kept[first] = True
    if not kept.all():
        findings.note("repeated event", "", f"left out ({repeats})", int((~kept).sum()))
    return sequences.only(kept)


def k_core(sequences: Sequences, least: int, findings: Findings) -> Sequences:
    """Leave out people and items with fewer than `least` events, again and again, until none is left."""
    people, items = sequences.people, len(np.unique(sequences.items))
    while least > 1 and len(sequences.items):
        enough = np.bincount(sequences.items)[sequences.items] >= least
        enough &= np.diff(sequences.offsets)[sequences.owner] >= least
        if enough.all():
            break
        sequences = sequences.only(enough)
    for what, gone in (("sequence", people - sequences.people), ("item", items - len(np.unique(sequences.items)))):
        if gone:
            findings.note(f"{what} with fewer than {least} events", "", "left out", gone)
    return sequences


def cut(sequences: Sequences, focus: np.ndarray, settings: Recommendation, findings: Findings) -> dict[str, np.ndarray]:
    """Rows of int64: for training (start, stop) of the events to learn from, for the others (start, target).

    Whatever stands before a target may be looked at, and nothing else.

    Raises:
        DataError: a split by time without times.
    """
    if settings.split == "time":
        if not sequences.timed:
            raise DataError("--usecase.split time: the log has no times. Use leave_one_out, or say where with --usecase.time_column.")
        return _by_time(sequences, focus, settings)
    return _leave_one_out(sequences, focus, findings)


def _leave_one_out(sequences: Sequences, focus: np.ndarray, findings: Findings) -> dict[str, np.ndarray]:
    """The last event in focus is the test, the last but one validation; sequences with fewer than three are learnt whole."""
    train, validation, test = [], [], []
    short = 0
    for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
        targets = start + np.flatnonzero(focus[start:stop])
        targets = targets[targets > start]
        if len(targets) < 2 or stop - start < 3:
            short += 1
            train.append((start, stop))
            continue
        train.append((start, targets[-2]))
        validation.append((start, targets[-2]))
        test.append((start, targets[-1]))
    if short:
        findings.note("sequence too short to be tested", "", "learnt from, not tested", short)
    return {
        name: np.array(rows, dtype=np.int64).reshape(-1, 2) for name, rows in (("train", train), ("validation", validation), ("test", test))
    }


def _by_time(sequences: Sequences, focus: np.ndarray, settings: Recommendation) -> dict[str, np.ndarray]:
    """Two days cut the log: what came before is learnt, what came after is asked for, event by event."""
    ordered = np.sort(sequences.times)
    first = ordered[int(len(ordered) * (1 - settings.test_share - settings.validation_share))]
    second = ordered[int(len(ordered) * (1 - settings.test_share))]
    starts = sequences.offsets[:-1][sequences.owner]
    rows = np.stack([starts, np.arange(len(focus))], axis=1)
    within = {"validation": (sequences.times >= first) & (sequences.times < second), "test": sequences.times >= second}
    learnt = np.add.reduceat(sequences.times < first, sequences.offsets[:-1])
    train = np.stack([sequences.offsets[:-1], sequences.offsets[:-1] + learnt], axis=1)[learnt > 0]
    return {"train": train, **{name: rows[chosen & focus] for name, chosen in within.items()}}
