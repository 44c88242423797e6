"""How well signs and lights are told apart, and the mistake that must not be made: red taken for green."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.contract.types import Arrays
from usecases.driving_perception.scenes import StoredScenes
from usecases.driving_perception.words import words_of


class SignalJudge:
    """Pictures of a split: which kind each shows, and the probabilities of all that were told."""

    main = "macro_recall"
    of_scenarios = ("macro_recall", "accuracy", "red_as_green")

    def __init__(self, scenes: StoredScenes, card: dict[str, Any]) -> None:
        self.kinds: list[str] = card["signals"]
        self.rows: list[int] = []
        self.true: list[int] = []
        self.probabilities: list[np.ndarray] = []

    def add(self, row: int, truth: Arrays, said: Arrays) -> None:
        self.rows.append(row)
        self.true.append(int(truth["signal"]))
        self.probabilities.append(said["probabilities"])

    def confusion(self) -> np.ndarray:
        """Pictures by true and told kind, int64 [C, C]."""
        counts = np.zeros((len(self.kinds), len(self.kinds)), dtype=np.int64)
        np.add.at(counts, (self.true, np.stack(self.probabilities).argmax(1)), 1)
        return counts

    def counts(self) -> np.ndarray:
        """Of each picture, its kind where it was hit, and its kind, [N, 2 C]."""
        true = np.eye(len(self.kinds))[self.true]
        hit = np.stack(self.probabilities).argmax(1) == np.array(self.true)
        return np.concatenate([true * hit[:, None], true], axis=1)

    @staticmethod
    def value(means: np.ndarray) -> np.ndarray:
        """macro_recall"""
        hits, support = np.split(means, 2, axis=-1)
        recall = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0)
        return recall.sum(-1) / np.maximum((support > 0).sum(-1), 1)

    def scores(self) -> dict[str, float]:
        """macro_recall, the mean of the kinds' recalls; accuracy; recall/<kind>; where kinds are called so, red_as_green, a number of pictures."""
        counts = self.confusion()
        there = counts.sum(1) > 0
        recall = np.diag(counts) / np.maximum(counts.sum(1), 1)
        measured = {
            "macro_recall": float(recall[there].mean()),
            "accuracy": float(np.trace(counts) / counts.sum()),
            **{f"recall/{kind}": float(value) for kind, value, known in zip(self.kinds, recall, there, strict=True) if known},
        }
        red, green = ([number for number, kind in enumerate(self.kinds) if colour in words_of(kind)] for colour in ("red", "green"))
        if red and green:
            measured["red_as_green"] = float(counts[np.ix_(red, green)].sum())
        return measured
