"""Low-rank factorisation of linear layers by singular value decomposition (Denton 2014; for BERT Hsu 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from tasks.compression.distillation import add_distillation_loss
from tasks.compression.method import Method
from tasks.contract.artifacts import Artifact, Checkpoint
from tasks.contract.errors import SettingError
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import nn

    from tasks.training.learner import Learner

DISTILLATION_WEIGHT = 0.5  # share of the loss that is the distance to the uncompressed network's predictions


class LowRank(Technique):
    """Fine-tuning of a trained network with factorised linear layers, distilled from the network before factorisation.

    Each layer saves the same share of its weights, the compression ratio (Hsu 2022, Wang 2024), from which its rank follows. The result is a
    plain network with low-rank weights; the exporter detects them and writes two thin products for each. The use case has to be
    `Distillable` for distillation; otherwise the usual loss is used.
    """

    trained: Checkpoint = Field(description="the network to factorise")
    share: float = Field(gt=0, lt=1, description="share of its weights that each linear layer before the head saves")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def gain(self) -> str:
        return f"linear layers as two thin ones with {self.share:.0%} fewer weights: smaller and faster, though less so with int8"

    def before(self, learner: Learner) -> None:
        from tasks.compression.factors import factorise_layers
        from tasks.training.checkpoints import load_network, load_weights

        load_weights(learner.network, self.trained)
        if not factorise_layers(learner.network, self.share):
            raise SettingError(
                f"--compression.factorise.shares {self.share:g}: this network has no linear layer before its head that could save that share. "
                "Give a smaller share, or leave factorise out of --compression.methods."
            )
        add_distillation_loss(learner, load_network(self.trained), DISTILLATION_WEIGHT, temperature=1.0)

    def after(self, network: nn.Module) -> None:
        from tasks.compression.factors import multiply_out

        multiply_out(network)


class Factorisation(Method):
    """Low-rank factorisation: linear layers become products of two thin matrices.

    Denton 2014; for BERT Hsu 2022. The network recovers with the uncompressed one as its teacher.
    """

    gain: ClassVar[str] = "faster and smaller where linear layers are most of the network"
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.3, 0.5, 0.7),
        description="shares of its weights that each linear layer before the head saves, to choose from; the search takes the largest within "
        "the budget of quality",
    )

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(sorted(self.shares))

    def label(self, level: float) -> str:
        return f"factorised {100 * level:g} %"

    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        return LowRank(trained=trained, share=level)
