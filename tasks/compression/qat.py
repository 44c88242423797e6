"""Quantisation-aware training (QAT): fine-tuning with the rounding of int8 before quantisation (Jacob 2018)."""

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
    """Fine-tuning of a trained network with fake-quantised weights and inputs of its convolutions and linear layers.

    The result is a plain network whose weights are rounded already, so that quantisation does not change them. Weights of zero stay zero.
    """

    trained: Checkpoint = Field(description="the network to fine-tune")
    bits: int = Field(default=INT8, ge=2, le=INT8, description="bits of the weights; activations have 8")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def gain(self) -> str:
        if self.bits == INT8:
            return "loses less quality in int8"
        return f"{self.bits}-bit weights: its int8 version is smaller when stored, not faster"

    def before(self, learner: Learner) -> None:
        from tasks.compression.fake_quantization import fake_quantize_layers
        from tasks.training.checkpoints import load_weights

        load_weights(learner.network, self.trained)
        if not fake_quantize_layers(learner.network, self.bits):
            raise SettingError(
                f"The network of {learner.usecase.name} has no convolution or linear layer to quantise. "
                "Leave quantize_aware out of --compression.methods."
            )

    def after(self, network: nn.Module) -> None:
        from tasks.compression.fake_quantization import remove_fake_quantization

        remove_fake_quantization(network)


class QuantizationAwareness(Method):
    """Quantisation-aware training (QAT): the network is fine-tuned with the rounding of int8.

    Jacob 2018. It is also tried on a network that was pruned a little too much, since more training may recover its quality.
    """

    gain: ClassVar[str] = "int8 and weights of down to 2 bits lose less quality"
    recovers: ClassVar[bool] = True
    bits: int = Field(default=INT8, ge=2, le=INT8, description="bits of the weights; fewer are smaller when stored, but not faster")

    @property
    def levels(self) -> tuple[float, ...]:
        return (self.bits,)

    def label(self, level: float) -> str:
        return "int8-aware" if level == INT8 else f"{level:g} bits aware"

    def step(self, name: str, level: float) -> str:
        return name if level == INT8 else f"{name} {level:g} bits"

    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        return QuantizationAware(trained=trained, bits=int(level))
