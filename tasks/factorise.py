"""The trained network with linear layers of low rank, which are exported as two thin ones."""

from __future__ import annotations

from tasks.compression.low_rank import LowRank
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.settings import Factorisation
from tasks.train import fit_network, training_task


@training_task
def factorise(checkpoint: Checkpoint, dataset: Dataset, factorisation: Factorisation) -> Checkpoint | None:
    """The network fine-tuned with its linear layers as products; None where the settings ask for none.

    Raises:
        SettingError: no linear layer before the head could save so much.
        TrainingError: with the root cause of the rank that failed first.
    """
    if not factorisation.share:
        return None
    technique = LowRank(trained=checkpoint, share=factorisation.share)
    return fit_network("factorise", checkpoint.usecase, dataset, factorisation, technique=technique)
