"""Sequences of events, the filters of their events, and their splits into training, validation and test."""

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
    """Sequences of events in flat arrays: sequence s has the events `offsets[s]` to `offsets[s + 1]`, exclusive."""

    items: np.ndarray  # int [events]
    times: np.ndarray  # float64 [events], seconds
    chosen: np.ndarray  # bool [events], has the action of the focus
    offsets: np.ndarray  # int64 [sequences + 1]
    users: np.ndarray  # int [sequences]
    timed: bool

    @property
    def count(self) -> int:
        """The number of sequences."""
        return len(self.offsets) - 1

    @property
    def owner(self) -> np.ndarray:
        """The sequence of each event, int64 [events]."""
        return np.repeat(np.arange(self.count), np.diff(self.offsets))

    def only(self, kept: np.ndarray) -> Sequences:
        """The sequences with the events where `kept` is true; empty sequences are removed."""
        counts = np.bincount(self.owner[kept], minlength=self.count)
        alive = counts > 0
        offsets = np.concatenate([[0], np.cumsum(counts[alive])])
        return Sequences(self.items[kept], self.times[kept], self.chosen[kept], offsets, self.users[alive], self.timed)

    def with_items(self, items: np.ndarray) -> Sequences:
        return replace(self, items=items)


def without_repeats(sequences: Sequences, repeats: str, findings: Findings) -> Sequences:
    """Remove repeated items.

    Args:
        sequences: the sequences.
        repeats: `keep` keeps all events, `consecutive` drops consecutive repeats, `first` keeps the first event of each item only.
        findings: the number of removed events is added to them.

    Returns:
        The sequences without the removed events.
    """
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


def k_core(sequences: Sequences, minimum: int, findings: Findings) -> Sequences:
    """Remove sequences and items with fewer events than a minimum, repeatedly, until none is left.

    Args:
        sequences: the sequences.
        minimum: smallest number of events; 1: none is removed.
        findings: the numbers of removed sequences and items are added to them.

    Returns:
        The remaining sequences.
    """
    count, items = sequences.count, len(np.unique(sequences.items))
    while minimum > 1 and len(sequences.items):
        enough = np.bincount(sequences.items)[sequences.items] >= minimum
        enough &= np.diff(sequences.offsets)[sequences.owner] >= minimum
        if enough.all():
            break
        sequences = sequences.only(enough)
    for what, removed in (("sequence", count - sequences.count), ("item", items - len(np.unique(sequences.items)))):
        if removed:
            findings.note(f"{what} with fewer than {minimum} events", "", "left out", removed)
    return sequences


def cut(sequences: Sequences, focus: np.ndarray, settings: Recommendation, findings: Findings) -> dict[str, np.ndarray]:
    """Split the sequences into training, validation and test.

    Args:
        sequences: the sequences.
        focus: the events that may be targets of validation and test, bool [events].
        settings: settings of the split.
        findings: the number of sequences that are too short for a test is added to them.

    Returns:
        Rows of int64 by split: for training (start, stop) of a range of events; for validation and test (start, target), where the
        events from start to target, exclusive, are the history.

    Raises:
        DataError: the split is by time, but the log has no times.
    """
    if settings.split == "time":
        if not sequences.timed:
            raise DataError(
                "--usecase.split time: the log has no times. Set --usecase.split leave_one_out, or name their column with --usecase.time_column."
            )
        return _by_time(sequences, focus, settings)
    return _leave_one_out(sequences, focus, findings)


def _leave_one_out(sequences: Sequences, focus: np.ndarray, findings: Findings) -> dict[str, np.ndarray]:
    """The last event in focus is for the test, the last but one for validation; shorter sequences are for training only."""
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
        findings.note("sequence that is too short for a test", "", "used for training only", short)
    return {
        name: np.array(rows, dtype=np.int64).reshape(-1, 2) for name, rows in (("train", train), ("validation", validation), ("test", test))
    }


def _by_time(sequences: Sequences, focus: np.ndarray, settings: Recommendation) -> dict[str, np.ndarray]:
    """Two times split the log: events before the first are for training, between them for validation, after the second for the test."""
    ordered = np.sort(sequences.times)
    first = ordered[int(len(ordered) * (1 - settings.test_share - settings.validation_share))]
    second = ordered[int(len(ordered) * (1 - settings.test_share))]
    starts = sequences.offsets[:-1][sequences.owner]
    rows = np.stack([starts, np.arange(len(focus))], axis=1)
    within = {"validation": (sequences.times >= first) & (sequences.times < second), "test": sequences.times >= second}
    learnt = np.add.reduceat(sequences.times < first, sequences.offsets[:-1])
    train = np.stack([sequences.offsets[:-1], sequences.offsets[:-1] + learnt], axis=1)[learnt > 0]
    return {"train": train, **{name: rows[chosen & focus] for name, chosen in within.items()}}
