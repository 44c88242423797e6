"""Applies a compression method to a trained network."""

from __future__ import annotations

from tasks.compression.method import Method
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.settings import Fit
from tasks.train import fit_network, training_task
from tasks.training.technique import Technique


@training_task
def shrink(name: str, method: Method, level: float, trained: Checkpoint, whole: Checkpoint, dataset: Dataset, fit: Fit) -> Checkpoint:
    """Apply a method of `tasks.compression.methods` to a network, and train it to recover quality.

    Args:
        name: of the method in `METHODS`.
        method: with its settings.
        level: its strength, one of `method.levels`.
        trained: the network to compress; it is not modified.
        whole: the network before any compression, which may be the teacher.
        dataset: to train on.
        fit: how to recover.

    Returns:
        The compressed network.

    Raises:
        SettingError: the method does not apply to the network.
        TrainingError: the training failed; the message has the root cause of the first rank that failed.
    """

    def train(technique: Technique) -> Checkpoint:
        return fit_network(method.step(name, level), trained.usecase, dataset, fit, technique=technique)

    return method.make(trained, whole, level, train)
