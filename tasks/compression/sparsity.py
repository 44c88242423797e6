"""Unstructured pruning: magnitude pruning (Zhu and Gupta 2017) and 2:4 sparsity (Mishra 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tasks.compression.method import Method
from tasks.contract.artifacts import Artifact, Checkpoint
from tasks.contract.errors import SettingError
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tasks.training.learner import Learner

    Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]

HALF = 0.5  # sparsity of the pattern 2:4
RAMP = 0.5  # share of the fit in which sparsity increases; in the rest the other weights recover
UPDATES = 50  # updates of the masks during the ramp


class Sparsity(Technique):
    """Fine-tuning of a trained network while pruned weights of its convolutions and linear layers are kept at zero.

    The masks are part of the state of the network and of its moving average, so that a resumed fit continues with the same masks.
    """

    trained: Checkpoint = Field(description="the network to prune")
    pattern: Literal["magnitude", "2:4"] = "magnitude"
    share: float = Field(gt=0, lt=1, description="share of the weights that become zero; 0.5 for 2:4")
    scope: Literal["network", "layer"] = Field(
        default="network", description="whether weights are ranked in the whole network or in each layer"
    )

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def gain(self) -> str:
        elsewhere = ", but faster on sparse tensor cores" if self.pattern == "2:4" else ""
        return f"{self.share:.0%} zeros: smaller when stored and sent, not faster on a CPU{elsewhere}"

    def before(self, learner: Learner) -> None:
        from tasks.training.checkpoints import load_weights

        if self.pattern == "magnitude" and learner.fit.patience:
            raise SettingError(
                f"--compression.patience {learner.fit.patience}: early stopping could keep an epoch before the full sparsity is reached. "
                "Set it to 0."
            )
        load_weights(learner.network, self.trained)
        self._add_masks(learner.network)
        if self.pattern == "magnitude":
            learner.loss = self._pruning_loss(learner)

    def after(self, network: nn.Module) -> None:
        from tasks.compression.masks import make_permanent

        if self.pattern == "magnitude":
            self._prune(network, self.share)  # a budget of time may have ended the fit during the ramp
        make_permanent(network)

    def _add_masks(self, network: nn.Module) -> None:
        import torch

        from tasks.compression.masks import GROUP, apply_mask, conv_and_linear_layers, mask_two_of_four

        layers = [layer for layer in conv_and_linear_layers(network) if self.pattern == "magnitude" or layer.weight.shape[1] % GROUP == 0]
        if not layers:
            raise SettingError(
                f"--compression.sparsify.pattern {self.pattern}: this network has no convolution or linear layer whose shape allows it. "
                "Leave sparsify out of --compression.methods."
            )
        for layer in layers:
            everything = torch.ones_like(layer.weight, dtype=torch.bool)
            apply_mask(layer, everything if self.pattern == "magnitude" else mask_two_of_four(layer.weight.detach()))

    def _pruning_loss(self, learner: Learner) -> Loss:
        """The loss of the learner, which first updates the masks to the sparsity of the schedule."""
        plain, reached = learner.loss, 0.0

        def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            nonlocal reached
            wanted = scheduled_sparsity(self.share, learner.progress())
            if wanted > reached:
                self._prune(learner.network, wanted)
                reached = wanted
            return plain(network, batch)

        return loss

    def _prune(self, network: nn.Module, share: float) -> None:
        from tasks.compression.masks import prune_smallest

        prune_smallest(network, share, globally=self.scope == "network")


def scheduled_sparsity(share: float, progress: float) -> float:
    """The share of zeros at a progress of the fit in [0, 1], by the cubic schedule of Zhu and Gupta (2017)."""
    done = min(int(UPDATES * progress / RAMP) / UPDATES, 1.0)
    return share * (1 - (1 - done) ** 3)


class Sparsification(Method):
    """Unstructured pruning: the weights of smallest magnitude, or two of every four, become zero.

    Zhu and Gupta 2017; Mishra 2021. Sparsity increases in the first half of the fit; in the second half the other weights recover.
    """

    gain: ClassVar[str] = "smaller when stored and sent, also on top of int8; not faster on a CPU"
    only_stored: ClassVar[bool] = True
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.8,),
        description="shares of the weights that become zero, to choose from; the search takes the largest within the budget of quality",
    )
    pattern: Literal["magnitude", "2:4"] = Field(
        default="magnitude",
        description="magnitude: the weights of smallest magnitude become zero; 2:4: two of every four, for GPUs with sparse tensor cores, "
        "with a share of 0.5",
    )
    scope: Literal["network", "layer"] = Field(
        default="network", description="network: weights are ranked in the whole network; layer: each layer loses the same share"
    )

    @model_validator(mode="after")
    def _half(self) -> Sparsification:
        if self.pattern == "2:4" and self.shares != (HALF,):
            raise ValueError(
                f"shares {self.shares}: with the pattern 2:4, half of the weights become zero. Set --compression.sparsify.shares 0.5."
            )
        return self

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(sorted(self.shares))

    def label(self, level: float) -> str:
        return f"{100 * level:g} % zeros"

    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        return Sparsity(trained=trained, pattern=self.pattern, share=level, scope=self.scope)
