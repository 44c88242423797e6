"""Fine-tuning for a part of the data without forgetting the rest: some of the rest is gone over with it (rehearsal, Robins 1995)."""

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
    """Training goes on with a trained network, on the examples of `usecase.focus` and a share of others."""

    trained: Checkpoint
    share: float = Field(ge=0, lt=1, description="of the others")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def before(self, learner: Learner) -> None:
        from tasks.training.batches import Batches
        from tasks.training.checkpoints import load_weights

        usecase = learner.usecase
        focus = usecase.focus(learner.data) if isinstance(usecase, Adaptable) else None
        if focus is None or not len(focus):
            raise SettingError(f"There is nothing to adapt to: {learner.usecase.name} names no part of the training split.")
        load_weights(learner.network, self.trained)
        whole, fit = learner.batches, learner.fit
        some = Chosen(whole.examples, rehearsed(len(whole.examples), focus, self.share))
        learner.batches = Batches(some, fit.batch_size, fit.epochs, fit.seed, whole.rank, whole.ranks)


class Chosen:
    """Some examples of a split, or some of them several times."""

    def __init__(self, examples: Examples, rows: np.ndarray) -> None:
        self.examples, self.rows = examples, rows
        if (lengths := getattr(examples, "lengths", None)) is not None:
            self.lengths = lengths[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Arrays:
        return self.examples.batch(self.rows[indices])


def rehearsed(count: int, focus: np.ndarray, share: float) -> np.ndarray:
    """Rows of `count` examples, int64: those of `focus` as often as it takes for all the others to be a share `share`; without a share none of them.

    So nothing of the rest is left out for good, and each pass goes over all of it.
    """
    others = np.setdiff1d(np.arange(count), focus)
    if not share or not len(others):
        return focus
    times = max(1, round(len(others) * (1 - share) / share / len(focus)))
    return np.concatenate([np.tile(focus, times), others])
