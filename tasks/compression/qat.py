"""A trained network learns to live with the rounding of int8 before it is quantised (quantisation-aware training, Jacob 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.compression.method import Method
from tasks.contract.artifacts import Artifact, Checkpoint
from tasks.contract.errors import SettingError
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import nn

    from tasks.training.learner import Learner

INT8 = 8


class QuantizationAware(Technique):
    """Training goes on with a trained network whose convolutions and linear layers compute with rounded weights and inputs.

    What is kept is a plain network whose weights are rounded already: quantising it changes none of them. Weights of zero stay so.
    """

    trained: Checkpoint
    bits: int = Field(default=INT8, ge=2, le=INT8, description="of the weights; activations have 8")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def gain(self) -> str:
        return "int8 costs it less" if self.bits == INT8 else f"{self.bits}-bit weights: int8 of it is smaller when stored, no faster"

    def before(self, learner: Learner) -> None:
        from tasks.compression.rounding import round_layers
        from tasks.training.checkpoints import load_weights

        load_weights(learner.network, self.trained)
        if not round_layers(learner.network, self.bits):
            raise SettingError(
                f"{learner.usecase.name} has no convolution or linear layer to quantise. Leave quantize_aware out of --compression.methods."
            )

    def after(self, network: nn.Module) -> None:
        from tasks.compression.rounding import keep_rounded

        keep_rounded(network)


class QuantizationAwareness(Method):
    """Quantisation-aware training (QAT): the network is fine-tuned with the rounding of int8.

    Jacob 2018. It is also tried on what was pruned a little too far, since more training may recover that.
    """

    gain: ClassVar[str] = "int8 loses less quality, down to 2 bits"
    recovers: ClassVar[bool] = True
    bits: int = Field(default=INT8, ge=2, le=INT8, description="bits of the weights; fewer are smaller when stored, but no faster")

    @property
    def levels(self) -> tuple[float, ...]:
        return (self.bits,)

    def label(self, level: float) -> str:
        return "int8-aware" if level == INT8 else f"{level:g} bits aware"

    def step(self, name: str, level: float) -> str:
        return name if level == INT8 else f"{name} {level:g} bits"

    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        return QuantizationAware(trained=trained, bits=int(level))
