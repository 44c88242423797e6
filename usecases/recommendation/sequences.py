"""Batches of sequences: histories padded on the left, allowed items, and targets."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.types import Arrays, Split
from tasks.contract.usecase import Examples

if TYPE_CHECKING:
    from usecases.recommendation import Recommendation


LENGTH_STEP = 16  # lengths of training batches are multiples of it, since CPU kernels are compiled for each shape


class Events:
    """Prepared events, which are read from disk on demand."""

    def __init__(self, folder: Path) -> None:
        self.items = np.load(folder / "events" / "items.npy", mmap_mode="r")
        self.focus = np.load(folder / "events" / "focus.npy", mmap_mode="r")
        self.splits = {split: np.load(folder / "events" / f"{split}.npy") for split in ("train", "validation", "test")}
        card = read_catalogue(folder / "assets")
        self.size, self.filter_seen = len(card["items"]), bool(card["filter_seen"])


class Windows:
    """Training examples: windows of up to `length` events, with the next item at every position."""

    def __init__(self, events: Events, length: int, focused: bool) -> None:
        self.events, self.length, self.focused = events, length, focused
        self.rows = np.array([row for start, stop in events.splits["train"] for row in _windows(int(start), int(stop), length)])
        self.rows = self.rows.reshape(-1, 2)
        if focused:
            self.rows = self.rows[[bool(events.focus[start + 1 : stop].any()) for start, stop in self.rows]]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Arrays:
        """history and target, int64 [B, L], padded with 0; L is the longest of them, rounded up.

        Batches are random: with batches of similar length training is 1.4 times as fast, but worse (NDCG@10 on MovieLens-1M half-way
        .157 instead of .166).
        """
        events = int((self.rows[indices, 1] - self.rows[indices, 0]).max()) - 1
        longest = min(self.length, -(-events // LENGTH_STEP) * LENGTH_STEP)
        history, target = (np.zeros((len(indices), longest), dtype=np.int64) for _ in range(2))
        for row, (start, stop) in enumerate(self.rows[indices]):
            items = self.events.items[start:stop]
            wanted = items[1:] * self.events.focus[start + 1 : stop] if self.focused else items[1:]
            history[row, longest - len(wanted) :] = items[:-1]
            target[row, longest - len(wanted) :] = wanted
        return {"history": history, "target": target}


class EvaluationExamples:
    """Examples of validation and test: a history and the item that came next."""

    def __init__(self, events: Events, split: Split, length: int) -> None:
        self.events, self.length = events, length
        self.rows = events.splits[split]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Arrays:
        """history int64 [B, length], allowed bool [B, items], target int64 [B], and events before it, int64 [B]."""
        history = np.zeros((len(indices), self.length), dtype=np.int64)
        allowed = np.ones((len(indices), self.events.size), dtype=bool)
        rows = self.rows[indices]
        for row, (start, target) in enumerate(rows):
            past = self.events.items[start:target]
            last = past[-self.length :]
            history[row, self.length - len(last) :] = last
            if self.events.filter_seen:
                allowed[row, past - 1] = False
        target = self.events.items[rows[:, 1]].astype(np.int64)
        allowed[np.arange(len(rows)), target - 1] = True  # also if it repeats an item: the filter must not make it unreachable
        return {"history": history, "allowed": allowed, "target": target, "before": rows[:, 1] - rows[:, 0]}


def _windows(start: int, stop: int, length: int) -> list[tuple[int, int]]:
    """Windows of up to `length` + 1 events, the last of which ends at `stop`; neighbours share one event."""
    found = []
    while stop - start >= 2:
        found.append((max(start, stop - length - 1), stop))
        stop = found[-1][0] + 1
    return found


def open_split(folder: Path, split: Split, length: int, focused: bool) -> Examples:
    """Open the examples of a split.

    Args:
        folder: the prepared data set.
        split: name of the split.
        length: maximum sequence length.
        focused: in training only the events in focus are targets; in validation and test they always are.

    Returns:
        The examples.
    """
    events = Events(folder)
    return Windows(events, length, focused) if split == "train" else EvaluationExamples(events, split, length)


def training_requests(usecase: Recommendation, folder: Path, rows: np.ndarray) -> Arrays:
    """Training examples as the inputs of requests, for calibration of a quantised graph.

    Args:
        usecase: settings with the maximum sequence length.
        folder: the prepared data set.
        rows: indices of the training examples, [B].

    Returns:
        history int64 [B, length] and allowed bool [B, items].
    """
    events = Events(folder)
    histories = Windows(events, usecase.length, focused=False).batch(rows)["history"]
    missing = usecase.length - histories.shape[1]
    return {"history": np.pad(histories, ((0, 0), (missing, 0))), "allowed": np.ones((len(rows), events.size), dtype=bool)}


@lru_cache(maxsize=2)
def read_catalogue(assets: Path) -> dict[str, Any]:
    return json.loads((assets / "catalogue.json").read_text(encoding="utf-8"))
