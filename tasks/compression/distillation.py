"""Knowledge distillation: a student learns from the predictions of a teacher (Hinton 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.contract.artifacts import Artifact, Checkpoint
from tasks.contract.capabilities import Distillable
from tasks.contract.errors import SettingError
from tasks.settings import Distillation
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tasks.training.learner import Learner


class KnowledgeDistillation(Distillation, Technique):
    """Part of the loss is the distance to the teacher's predictions for the same examples with the same augmentation and sampling."""

    teacher: Checkpoint = Field(description="the trained network; it initialises the student, and is the teacher unless a bundle is given")
    bundle_digest: str = Field(default="", description="digest of the bundle whose model is the teacher; empty: none")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.teacher,)

    def before(self, learner: Learner) -> None:
        from tasks.training.checkpoints import load_network

        teacher = load_network(self.teacher)
        usecase = learner.usecase
        assert isinstance(usecase, Distillable), usecase.name
        usecase.initialise_student(learner.network, teacher)
        if self.bundle:
            from tasks.compression.onnx_teacher import open_teacher

            if self.hidden or self.attention:
                raise SettingError(
                    "--distillation.bundle: the model of a bundle has no accessible hidden states or attention maps. "
                    "Set --distillation.hidden and --distillation.attention to 0, or leave the bundle out."
                )
            teacher = open_teacher(Path(self.bundle), learner.usecase, learner.data)
        add_distillation_loss(learner, teacher, self.weight, self.temperature)
        if self.hidden or self.attention:
            from tasks.compression.intermediate import add_intermediate_loss

            add_intermediate_loss(learner, teacher, self.hidden, self.attention)

    def after(self, network: nn.Module) -> None:
        from tasks.compression.intermediate import remove_projections

        remove_projections(network)


def add_distillation_loss(learner: Learner, teacher: nn.Module, weight: float, temperature: float) -> None:
    """Replace the loss of a learner by `Distillable.distillation_loss`; nothing changes if its use case is not `Distillable`.

    Args:
        learner: its network is the student.
        teacher: the network to learn from; its weights are frozen.
        weight: weight of the distance to the teacher's predictions, in [0, 1].
        temperature: divides the logits of both networks before the softmax.
    """
    usecase = learner.usecase
    if not isinstance(usecase, Distillable):
        return
    teacher.requires_grad_(False)

    def loss(student: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return usecase.distillation_loss(student, teacher.to(learner.device), batch, weight, temperature)

    learner.loss = loss
