"""Distillation of a small student from the trained network."""

from __future__ import annotations

from pathlib import Path

from tasks import store
from tasks.compression.distillation import KnowledgeDistillation
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.capabilities import Distillable
from tasks.contract.errors import SettingError
from tasks.settings import Distillation, Fit
from tasks.train import fit_network, training_task


@training_task
def distil(teacher: Checkpoint, dataset: Dataset, fit: Fit, distillation: Distillation = Distillation()) -> Checkpoint | None:
    """Train a student with the smaller settings of the use case.

    Args:
        teacher: the trained network.
        dataset: to train on.
        fit: how to train.
        distillation: how the student learns from the teacher.

    Returns:
        The student; None if the use case has no student.

    Raises:
        SettingError: the bundle cannot be a teacher, or there is no student.
        TrainingError: the training failed; the message has the root cause of the first rank that failed.
    """
    usecase = teacher.usecase
    smaller = usecase.student_usecase() if isinstance(usecase, Distillable) else None
    if distillation.bundle and smaller is None:
        raise SettingError(f"--distillation.bundle {distillation.bundle} needs a student. Set --usecase.student.")
    fit = fit.model_copy(update={"lora": 0})  # a new student needs larger changes than LoRA can make
    digest = store.content_digest(Path(distillation.bundle)) if distillation.bundle and Path(distillation.bundle).is_dir() else ""
    technique = KnowledgeDistillation(teacher=teacher, bundle_digest=digest, **distillation.model_dump())
    return fit_network("distil", smaller, dataset, fit, technique=technique) if smaller else None
