"""The trained network without its least important channels, hidden units and heads."""

from __future__ import annotations

from tasks.compression.pruning import StructuredPruning
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.settings import Pruning
from tasks.train import fit_network, training_task


@training_task
def prune(checkpoint: Checkpoint, dataset: Dataset, pruning: Pruning) -> Checkpoint | None:
    """What is left of the network after all rounds, recovered; None where the settings take nothing away.

    Raises:
        SettingError: there is nothing in the network that can be pruned.
        TrainingError: with the root cause of the rank that failed first.
    """
    if not pruning.share:
        return None
    pruned, each = checkpoint, 1 - (1 - pruning.share) ** (1 / pruning.rounds)
    for _ in range(pruning.rounds):
        technique = StructuredPruning(trained=pruned, teacher=checkpoint, share=each)
        pruned = fit_network(f"prune {100 * pruning.share:g} %", checkpoint.usecase, dataset, pruning, technique=technique)
    return pruned
