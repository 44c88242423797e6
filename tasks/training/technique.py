"""A change to a fit: how compression and other training-time methods meet the one training loop."""

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
    """A value that says how; its fields are its settings."""

    def inputs(self) -> tuple[Artifact, ...]:
        """The artifacts that it brings along."""
        return ()

    def gain(self) -> str:
        """What is gained where the network is served, for people; empty: the scores say all."""
        return ""

    @abstractmethod
    def before(self, learner: Learner) -> None:
        """Change the learner before the first step, also where an earlier attempt is resumed."""

    def after(self, network: nn.Module) -> None:
        """Undo or fix what must not be kept, in the weights that will be."""
        return


AnyTechnique = Annotated[Technique, BeforeValidator(read_typed), PlainSerializer(write_typed)]
"""A field that holds any technique and writes its class beside its fields."""
