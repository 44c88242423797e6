"""A trained network most of whose weights are zero."""

from __future__ import annotations

from tasks.compression.sparsity import HALF, Sparsity
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.errors import SettingError
from tasks.settings import Sparsification
from tasks.train import fit_network, training_task


@training_task
def sparsify(checkpoint: Checkpoint, dataset: Dataset, sparsification: Sparsification) -> Checkpoint | None:
    """The network fine-tuned with a share of its weights held at zero; None where the settings ask for none.

    Raises:
        SettingError: no such share with this pattern, or no layer that could be sparse.
        TrainingError: with the root cause of the rank that failed first.
    """
    share, pattern = sparsification.share, sparsification.pattern
    if pattern == "2:4" and share != HALF:
        raise SettingError(f"--sparsification.share {share:g}: with the pattern 2:4 half of the weights become zero. Give 0.5.")
    if not share:
        return None
    technique = Sparsity(trained=checkpoint, pattern=pattern, share=share, scope=sparsification.scope)
    return fit_network("sparsify", checkpoint.usecase, dataset, sparsification, technique=technique)
