"""Many weights of zero: the smallest ones (Zhu and Gupta 2017), or two of every four (Mishra 2021)."""

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

HALF = 0.5  # of the weights are zero with 2:4
RISE = 0.5  # share of the fit in which the zeros become more; in the rest the other weights make up for them
UPDATES = 50  # of the masks meanwhile


class Sparsity(Technique):
    """Training goes on with a trained network while many weights of its convolutions and linear layers are held at zero.

    The masks are part of the network's state, and of its average: a fit that is resumed goes on with the same.
    """

    trained: Checkpoint
    pattern: Literal["magnitude", "2:4"] = "magnitude"
    share: float = Field(gt=0, lt=1, description="of weights that become zero; 2:4 is a half")
    scope: Literal["network", "layer"] = Field(default="network", description="in which the weights of smallest magnitude are looked for")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def gain(self) -> str:
        elsewhere = "; sparse tensor cores can be" if self.pattern == "2:4" else ""
        return f"{self.share:.0%} zeros: smaller when stored and sent, no faster on a CPU{elsewhere}"

    def before(self, learner: Learner) -> None:
        from tasks.training.checkpoints import load_weights

        if self.pattern == "magnitude" and learner.fit.patience:
            raise SettingError(
                f"--compression.patience {learner.fit.patience}: the best epoch may come before the zeros are as many as they should be. Leave it 0."
            )
        load_weights(learner.network, self.trained)
        self._cover(learner.network)
        if self.pattern == "magnitude":
            learner.loss = self._tightening(learner)

    def after(self, network: nn.Module) -> None:
        from tasks.compression.masks import release

        if self.pattern == "magnitude":
            self._tighten(network, self.share)  # a budget of time may have ended before they were all zero
        release(network)

    def _cover(self, network: nn.Module) -> None:
        import torch

        from tasks.compression.masks import GROUP, hold, mask_two_of_four, weighty_layers

        layers = [layer for layer in weighty_layers(network) if self.pattern == "magnitude" or layer.weight.shape[1] % GROUP == 0]
        if not layers:
            raise SettingError(
                f"--compression.sparsify.pattern {self.pattern}: this network has no layer of a shape that could be sparse so."
            )
        for layer in layers:
            everything = torch.ones_like(layer.weight, dtype=torch.bool)
            hold(layer, everything if self.pattern == "magnitude" else mask_two_of_four(layer.weight.detach()))

    def _tightening(self, learner: Learner) -> Loss:
        """The loss of the learner, before which the masks grow to what is due."""
        plain, reached = learner.loss, 0.0

        def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            nonlocal reached
            wanted = risen(self.share, learner.progress())
            if wanted > reached:
                self._tighten(learner.network, wanted)
                reached = wanted
            return plain(network, batch)

        return loss

    def _tighten(self, network: nn.Module, share: float) -> None:
        from tasks.compression.masks import tighten

        tighten(network, share, together=self.scope == "network")


def risen(share: float, progress: float) -> float:
    """The share of zeros at a progress of the fit in [0, 1]: it grows as a cube, quickly and then slowly (Zhu and Gupta 2017)."""
    done = min(int(UPDATES * progress / RISE) / UPDATES, 1.0)
    return share * (1 - (1 - done) ** 3)


class Sparsification(Method):
    """Unstructured pruning: the weights of smallest magnitude, or two of every four, become zero.

    Zhu and Gupta 2017; Mishra 2021. In the first half of the fit zeros become more, in the rest the other weights make up for them.
    """

    gain: ClassVar[str] = "stored and sent smaller, also on top of int8; no faster on a CPU"
    only_stored: ClassVar[bool] = True
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.8,),
        description="shares of the weights that become zero, of which the largest that the budget of quality allows is looked for",
    )
    pattern: Literal["magnitude", "2:4"] = Field(
        default="magnitude", description="the smallest weights; or two of every four, a share of 0.5, for GPUs with sparse tensor cores"
    )
    scope: Literal["network", "layer"] = Field(
        default="network", description="the smallest weights of the whole network, or as many of each layer"
    )

    @model_validator(mode="after")
    def _half(self) -> Sparsification:
        if self.pattern == "2:4" and self.shares != (HALF,):
            raise ValueError(
                f"shares {self.shares}: with the pattern 2:4 half of the weights become zero. Give --compression.sparsify.shares 0.5."
            )
        return self

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(sorted(self.shares))

    def label(self, level: float) -> str:
        return f"{100 * level:g} % zeros"

    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        return Sparsity(trained=trained, pattern=self.pattern, share=level, scope=self.scope)
