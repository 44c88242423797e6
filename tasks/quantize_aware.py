"""A trained network that has learnt to live with int8."""

from __future__ import annotations

from tasks.compression.qat import QuantizationAware
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.settings import QuantizationAwareness
from tasks.train import fit_network, training_task


@training_task
def quantize_aware(checkpoint: Checkpoint, dataset: Dataset, awareness: QuantizationAwareness) -> Checkpoint | None:
    """The network fine-tuned with the rounding of int8, for `quantize` to lose less; None where the settings skip it.

    Raises:
        SettingError: there is no layer to quantise.
        TrainingError: with the root cause of the rank that failed first.
    """
    if not awareness.epochs:
        return None
    technique = QuantizationAware(trained=checkpoint, bits=awareness.bits)
    return fit_network("quantize_aware", checkpoint.usecase, dataset, awareness, technique=technique)
