"""Rehearsal: fine-tuning for a part of the data, mixed with other examples against forgetting (Robins 1995)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from tasks.contract.artifacts import Artifact, Checkpoint
from tasks.contract.capabilities import Adaptable
from tasks.contract.errors import SettingError
from tasks.contract.types import Arrays
from tasks.contract.usecase import Examples
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from tasks.training.learner import Learner


class Rehearsal(Technique):
    """Fine-tuning of a trained network on the examples of `Adaptable.focus`, mixed with a share of the other training examples."""

    trained: Checkpoint = Field(description="the network to fine-tune")
    share: float = Field(ge=0, lt=1, description="share of the other examples in an epoch; 0: only examples of the focus")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def before(self, learner: Learner) -> None:
        from tasks.training.batches import Batches
        from tasks.training.checkpoints import load_weights

        usecase = learner.usecase
        focus = usecase.focus(learner.data) if isinstance(usecase, Adaptable) else None
        if focus is None or not len(focus):
            raise SettingError(
                f"There is nothing to adapt to: {learner.usecase.name} names no part of the training split. Set --adaptation.epochs 0."
            )
        load_weights(learner.network, self.trained)
        whole, fit = learner.batches, learner.fit
        some = Subset(whole.examples, rehearsal_rows(len(whole.examples), focus, self.share))
        learner.batches = Batches(some, fit.batch_size, fit.epochs, fit.seed, whole.rank, whole.ranks)


class Subset:
    """The examples of a split at given indices, which may repeat."""

    def __init__(self, examples: Examples, rows: np.ndarray) -> None:
        self.examples, self.rows = examples, rows
        if (lengths := getattr(examples, "lengths", None)) is not None:
            self.lengths = lengths[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Arrays:
        return self.examples.batch(self.rows[indices])


def rehearsal_rows(count: int, focus: np.ndarray, share: float) -> np.ndarray:
    """The examples of an epoch: all others once, and those of the focus as often as gives the others their share.

    Args:
        count: number of all training examples.
        focus: indices of the examples to fine-tune for, int64.
        share: share of the other examples, in [0, 1); 0: only the focus.

    Returns:
        Indices, int64; those of the focus may repeat.
    """
    others = np.setdiff1d(np.arange(count), focus)
    if not share or not len(others):
        return focus
    times = max(1, round(len(others) * (1 - share) / share / len(focus)))
    return np.concatenate([np.tile(focus, times), others])
