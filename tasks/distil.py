"""A small student, taught by the trained network."""

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
    """A student of the use case's smaller settings; None where the use case has none.

    Raises:
        SettingError: the bundle that is to teach cannot, or there is no student.
        TrainingError: with the root cause of the rank that failed first.
    """
    usecase = teacher.usecase
    smaller = usecase.student_usecase() if isinstance(usecase, Distillable) else None
    if distillation.bundle and smaller is None:
        raise SettingError(f"--distillation.bundle {distillation.bundle} has nobody to teach: ask for a student by --usecase.student.")
    fit = fit.model_copy(update={"lora": 0})  # a student begins too far from its end for changes of a low rank
    digest = store.content_digest(Path(distillation.bundle)) if distillation.bundle and Path(distillation.bundle).is_dir() else ""
    technique = KnowledgeDistillation(teacher=teacher, bundle_digest=digest, **distillation.model_dump())
    return fit_network("distil", smaller, dataset, fit, technique=technique) if smaller else None
