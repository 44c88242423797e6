"""A small network learns what a large one thinks (Hinton 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifacts import Checkpoint
from tasks.errors import SettingError
from tasks.settings import Teaching
from tasks.training.technique import Technique
from tasks.usecase import UseCase

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tasks.training.learner import Learner


class Distillation(Teaching, Technique):
    """Part of the loss is the distance to the teacher's opinion of the same examples, augmented and sampled alike."""

    teacher: Checkpoint
    bundle_digest: str = ""

    def made_from(self) -> tuple[str, ...]:
        return (self.teacher.digest,)

    def before(self, learner: Learner) -> None:
        from tasks.training.checkpoints import load_network

        teacher = load_network(self.teacher)
        learner.usecase.inherit(learner.network, teacher)
        if self.bundle:
            from tasks.compression.onnx_teacher import open_teacher

            if self.hidden or self.attention:
                raise SettingError("--teaching.bundle tells its answers alone: --teaching.hidden and --teaching.attention have to be 0.")
            teacher = open_teacher(Path(self.bundle), learner.usecase, learner.data)
        teach(learner, teacher, self.weight, self.temperature)
        if self.hidden or self.attention:
            from tasks.compression.inside import teach_inside

            teach_inside(learner, teacher, self.hidden, self.attention)

    def after(self, network: nn.Module) -> None:
        from tasks.compression.inside import forget

        forget(network)


def teach(learner: Learner, teacher: nn.Module, weight: float, temperature: float) -> None:
    """Make a part `weight` of the loss the distance to the teacher's opinion."""
    teacher.requires_grad_(False)

    def loss(student: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return learner.usecase.taught_loss(student, teacher.to(learner.device), batch, weight, temperature)

    learner.loss = loss


def is_taught(usecase: UseCase) -> bool:
    """Whether the vertical says what two of its networks are compared by."""
    return any(getattr(type(usecase), method) is not getattr(UseCase, method) for method in ("logits", "taught_loss"))


def mixed_loss(
    usecase: UseCase, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
) -> Tensor:
    """What was observed and what the teacher thinks. Both draw the same random numbers, so that they see the same augmented or sampled batch."""
    import torch
    from torch.nn import functional as F

    with torch.random.fork_rng(), torch.no_grad():
        wanted, _ = usecase.logits(teacher, batch)
    found, target = usecase.logits(student, batch)
    return (1 - weight) * F.cross_entropy(found, target) + weight * soft_loss(found, wanted, temperature)


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the student's softened classes with the teacher's, [N, C] each; times T² so that gradients keep their size."""
    import torch

    wanted = torch.softmax(teacher.float() / temperature, dim=1)
    found = torch.log_softmax(student.float() / temperature, dim=1)
    return -(wanted * found.masked_fill(wanted == 0, 0)).sum(1).mean() * temperature**2
