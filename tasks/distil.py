"""A small student, taught by the trained network."""

from __future__ import annotations

from pathlib import Path

from tasks import store
from tasks.compression.distillation import Distillation
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.capabilities import Distillable
from tasks.contract.errors import SettingError
from tasks.settings import Fit, Teaching
from tasks.train import fit_network, training_task


@training_task
def distil(teacher: Checkpoint, dataset: Dataset, fit: Fit, teaching: Teaching = Teaching()) -> Checkpoint | None:
    """A student of the use case's smaller settings; None where the use case has none.

    Raises:
        SettingError: the bundle that is to teach cannot, or there is no student.
        TrainingError: with the root cause of the rank that failed first.
    """
    usecase = teacher.usecase
    smaller = usecase.student_usecase() if isinstance(usecase, Distillable) else None
    if teaching.bundle and smaller is None:
        raise SettingError(f"--teaching.bundle {teaching.bundle} has nobody to teach: ask for a student by --usecase.student.")
    fit = fit.model_copy(update={"lora": 0})  # a student begins too far from its end for changes of a low rank
    digest = store.content_digest(Path(teaching.bundle)) if teaching.bundle and Path(teaching.bundle).is_dir() else ""
    technique = Distillation(teacher=teacher, bundle_digest=digest, **teaching.model_dump())
    return fit_network("distil", smaller, dataset, fit, technique=technique) if smaller else None
