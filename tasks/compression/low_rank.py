"""Linear layers as products of two thin matrices, from the singular value decomposition of trained ones (Denton 2014; for BERT Hsu 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from tasks.compression.distillation import teach
from tasks.compression.method import Method
from tasks.contract.artifacts import Artifact, Checkpoint
from tasks.contract.errors import SettingError
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import nn

    from tasks.training.learner import Learner

TAUGHT = 0.5  # of the loss is the whole network's opinion; the rest is what was observed


class LowRank(Technique):
    """Training goes on with products in place of a trained network's linear layers, taught by the whole one where the use case can compare the two.

    One share of its weights is saved in each layer, as in what the field calls compression ratio (Hsu 2022, Wang 2024): the ranks follow.
    What is kept is a plain network whose weights are of those ranks; the exporter finds that out and writes two products for each.
    """

    trained: Checkpoint
    share: float = Field(gt=0, lt=1, description="of the weights that each linear layer before the head saves")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def gain(self) -> str:
        return f"linear layers as two thin ones with {self.share:.0%} fewer weights: smaller and faster, with int8 less so"

    def before(self, learner: Learner) -> None:
        from tasks.compression.factors import factorise_layers
        from tasks.training.checkpoints import load_network, load_weights

        load_weights(learner.network, self.trained)
        if not factorise_layers(learner.network, self.share):
            raise SettingError(
                f"--compression.factorise.shares {self.share:g}: this network has no linear layer before its head that could save so much. "
                "Give a smaller share, or leave factorise out of --compression.methods."
            )
        teach(learner, load_network(self.trained), TAUGHT, temperature=1.0)

    def after(self, network: nn.Module) -> None:
        from tasks.compression.factors import multiply_out

        multiply_out(network)


class Factorisation(Method):
    """Low-rank factorisation: linear layers become products of two thin matrices.

    Denton 2014; for BERT Hsu 2022. The network recovers with the whole one as its teacher.
    """

    gain: ClassVar[str] = "faster and smaller where linear layers are most of the network"
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.3, 0.5, 0.7),
        description="shares of the weights that each linear layer before the head saves, of which the largest that the budget of quality "
        "allows is looked for",
    )

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(sorted(self.shares))

    def label(self, level: float) -> str:
        return f"factorised {100 * level:g} %"

    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        return LowRank(trained=trained, share=level)
