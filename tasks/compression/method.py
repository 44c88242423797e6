"""What every way to make a trained network smaller has in common: how strong it may be, what it is called, and how it is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.records import Record
from tasks.training.technique import Technique

Train = Callable[[Technique], Checkpoint]
"""Fits a network with a technique."""


class Method(Record, ABC):
    """One compression method: its fields are its settings, the first line of its docstring is its help.

    A method has levels of strength, such as shares of channels or bits of a weight. The search looks for the strongest one that keeps the
    budget of quality.
    """

    gain: ClassVar[str]
    """What is better afterwards, for help texts and documentation."""
    only_stored: ClassVar[bool] = False
    """Whether the network is smaller when stored, but no faster: tried unasked only where the budget is of size."""
    recovers: ClassVar[bool] = False
    """Whether it recovers quality: first tried on what the method before it made a little too small."""

    @property
    @abstractmethod
    def levels(self) -> tuple[float, ...]:
        """The strengths that may be tried, from the weakest to the strongest; none: nothing is tried."""

    @abstractmethod
    def label(self, level: float) -> str:
        """Name of the candidate, such as "pruned 50 %"."""

    @abstractmethod
    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        """How the fit differs from a plain one.

        Args:
            trained: the network that is changed.
            whole: the network before any compression, which may be the teacher.
            level: one of `levels`.
        """

    def step(self, name: str, level: float) -> str:
        """Name of the step in progress bars and reports."""
        return f"{name} {100 * level:g} %"

    def make(self, trained: Checkpoint, whole: Checkpoint, level: float, train: Train) -> Checkpoint:
        """The smaller network; one fit unless a method overrides this."""
        return train(self.technique(trained, whole, level))

    def is_applicable(self, trained: Checkpoint, dataset: Dataset) -> bool:
        """Whether the network has anything that the method could change; where that is only known in the fit, True."""
        return True
