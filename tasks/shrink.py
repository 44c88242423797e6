"""A compression method applied to a trained network."""

from __future__ import annotations

from tasks.compression.method import Method
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.settings import Fit
from tasks.train import fit_network, training_task
from tasks.training.technique import Technique


@training_task
def shrink(name: str, method: Method, level: float, trained: Checkpoint, whole: Checkpoint, dataset: Dataset, fit: Fit) -> Checkpoint:
    """The network after one method of `tasks.compression.methods`, recovered.

    Args:
        name: of the method in the table.
        method: with its settings.
        level: its strength, one of `method.levels`.
        trained: the network that is made smaller; it is not changed.
        whole: the network before any compression, which may be the teacher.
        fit: how to recover.

    Raises:
        SettingError: the network has nothing that the method could change.
        TrainingError: with the root cause of the rank that failed first.
    """

    def train(technique: Technique) -> Checkpoint:
        return fit_network(method.step(name, level), trained.usecase, dataset, fit, technique=technique)

    return method.make(trained, whole, level, train)
