"""What every head of the network can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from tasks.contract.types import Arrays

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

Said = tuple[Tensor, ...]
"""What a head's `forward` returns."""


class Head(nn.Module, ABC):
    """Features to one kind of opinion about the frame."""

    @abstractmethod
    def forward(self, features: Tensor, size: tuple[int, int]) -> Said:
        """features [N, F, h, w] of an image of `size` (height, width)."""

    @abstractmethod
    def loss(self, said: Said, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        """A scalar; 0 where nothing is known of any frame."""

    @abstractmethod
    def distance(self, said: Said, taught: Said, temperature: float) -> Tensor:
        """How far this opinion is from a teacher's of the same frames, a scalar; above a temperature of 1 small differences count for more."""

    @abstractmethod
    def answers(self, said: Said) -> tuple[Tensor, ...]:
        """The outputs of the exported graph."""

    @abstractmethod
    def calibrate(self, said: Iterator[tuple[Arrays, Said]]) -> None:
        """Set how sure the answers say they are, by frames whose truth is known: batches of the truth, and what `forward` said."""
