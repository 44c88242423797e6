"""A small network learns what a large one thinks (Hinton 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract.artifacts import Artifact, Checkpoint
from tasks.contract.capabilities import Distillable
from tasks.contract.errors import SettingError
from tasks.settings import Distillation
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tasks.training.learner import Learner


class KnowledgeDistillation(Distillation, Technique):
    """Part of the loss is the distance to the teacher's opinion of the same examples, augmented and sampled alike."""

    teacher: Checkpoint
    bundle_digest: str = ""

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
                    "--distillation.bundle tells its answers alone: --distillation.hidden and --distillation.attention have to be 0."
                )
            teacher = open_teacher(Path(self.bundle), learner.usecase, learner.data)
        teach(learner, teacher, self.weight, self.temperature)
        if self.hidden or self.attention:
            from tasks.compression.inside import teach_inside

            teach_inside(learner, teacher, self.hidden, self.attention)

    def after(self, network: nn.Module) -> None:
        from tasks.compression.inside import forget

        forget(network)


def teach(learner: Learner, teacher: nn.Module, weight: float, temperature: float) -> None:
    """Make the share `weight` of the loss the distance to the teacher's predictions; nothing changes where the use case is not `Distillable`."""
    usecase = learner.usecase
    if not isinstance(usecase, Distillable):
        return
    teacher.requires_grad_(False)

    def loss(student: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return usecase.distillation_loss(student, teacher.to(learner.device), batch, weight, temperature)

    learner.loss = loss
