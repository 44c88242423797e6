"""Techniques: how pruning, distillation, LoRA and other methods change a fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, PlainSerializer

from tasks.contract.artifacts import Artifact
from tasks.contract.records import Record, read_typed, write_typed

if TYPE_CHECKING:
    from torch import nn

    from tasks.training.learner import Learner


class Technique(Record, ABC):
    """A change to a fit: its fields are its settings, its methods are called before and after training."""

    def inputs(self) -> tuple[Artifact, ...]:
        """The artifacts that the technique uses, such as a trained network or a teacher."""
        return ()

    def gain(self) -> str:
        """What the technique improves when the network is served, for progress messages; empty if only its scores do."""
        return ""

    @abstractmethod
    def before(self, learner: Learner) -> None:
        """Change the learner before the first step: its network, its loss or its batches.

        It is also called when an earlier attempt is resumed, before the state of that attempt is loaded.
        """

    def after(self, network: nn.Module) -> None:
        """Change the trained network before it is scored and saved, such as to remove masks or adapters."""
        return


AnyTechnique = Annotated[Technique, BeforeValidator(read_typed), PlainSerializer(write_typed)]
"""The type of a field that holds any technique; it is written to JSON with the name of its class."""
