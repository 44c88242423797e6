"""The interface of compression methods: which strengths a method has, how it is labelled, and how it changes the fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.records import Settings
from tasks.training.technique import Technique

Train = Callable[[Technique], Checkpoint]
"""Fits the network of a use case with a technique."""


class Method(Settings, ABC):
    """A compression method: its fields are its settings, and the first line of its docstring is its help text.

    A method has levels of strength, such as shares of channels or bits of a weight. The search looks for the strongest level within the
    budget of quality.
    """

    gain: ClassVar[str]
    """What the method improves, for help texts and documentation."""
    only_stored: ClassVar[bool] = False
    """Whether the method makes files smaller but inference not faster; it is then tried by default only if the budget limits the size."""
    recovers: ClassVar[bool] = False
    """Whether the method recovers quality; it is then tried first on a network that the method before it compressed a little too much."""

    @property
    @abstractmethod
    def levels(self) -> tuple[float, ...]:
        """The strengths to choose from, from the weakest to the strongest; empty: the method is skipped."""

    @abstractmethod
    def label(self, level: float) -> str:
        """Name of the candidate in reports, such as "pruned 50 %"."""

    @abstractmethod
    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        """The change to the fit that compresses the network.

        Args:
            trained: the network to compress, on which earlier methods may have worked.
            whole: the network before any compression, which may be the teacher.
            level: one of `levels`.

        Returns:
            A technique of the training engine, with which the use case's network is fitted.
        """

    def step(self, name: str, level: float) -> str:
        """Name of the step in progress bars and reports."""
        return f"{name} {100 * level:g} %"

    def make(self, trained: Checkpoint, whole: Checkpoint, level: float, train: Train) -> Checkpoint:
        """Compress a network at one level, by default in a single fit.

        Args:
            trained: the network to compress.
            whole: the network before any compression.
            level: one of `levels`.
            train: fits the use case's network with a technique.

        Returns:
            The compressed network.
        """
        return train(self.technique(trained, whole, level))

    def is_applicable(self, trained: Checkpoint, dataset: Dataset) -> bool:
        """Whether the method can change anything in the network; True if that is only known during the fit."""
        return True
