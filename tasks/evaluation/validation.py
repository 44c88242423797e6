"""The validation split decides: what a predictor scores there, how far it is from another one, and whether a loss is within the budget."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from tasks.contract.artifacts import Dataset, Interval, OnnxModel
from tasks.contract.capabilities import HasStatistics
from tasks.contract.records import Record
from tasks.contract.statistics import Statistics
from tasks.contract.types import Arrays, Predict, Split
from tasks.contract.usecase import UseCase
from tasks.evaluation.bootstrap import difference
from tasks.serving.bundle import open_bundle

MAX_CHANCE = 2  # times the allowed loss, up to which a loss that the examples cannot tell from none is accepted
MAX_MEMORY = 200_000_000  # bytes of outputs that are kept while a split is scored


@dataclass(frozen=True)
class Scored:
    """A predictor on one split: its scores and, where the use case `HasStatistics`, the monitored one taken apart by example."""

    monitor: str
    scores: dict[str, float]
    statistics: Statistics | None = None

    @property
    def value(self) -> float:
        """The monitored score."""
        return self.scores[self.monitor]


class Comparison(Record):
    """A candidate and a reference on the same examples of the validation split."""

    score: float = Field(description="monitored score of the candidate")
    reference: float = Field(description="monitored score of the reference")
    gain: Interval | None = Field(
        default=None, description="paired interval of the first minus the second; None: the score cannot be taken apart by example"
    )

    @property
    def loss(self) -> float:
        return self.reference - self.score

    def is_within(self, allowed: float) -> bool:
        """Whether the loss is accepted, see `is_within`."""
        return is_within(self.loss, self.gain, allowed)


def is_within(loss: float, gain: Interval | None, allowed: float) -> bool:
    """Whether a loss of quality on the validation split is accepted. Every choice of the project is made by this rule.

    Args:
        loss: score of the reference minus that of the candidate.
        gain: paired interval of the candidate's score minus the reference's; without one the loss itself decides.
        allowed: largest loss that the budget accepts. Up to twice as much is accepted where the interval reaches zero, because the
            examples are too few to tell such a loss from none.
    """
    return loss <= allowed or (gain is not None and gain.high >= 0 and loss <= MAX_CHANCE * allowed)


def score_split(usecase: UseCase, predict: Predict, folder: Path, split: Split = "validation") -> Scored:
    """Scores and statistics of a predictor on a split, which is run through it once.

    Args:
        predict: a network in torch, a bundle, a server.
        folder: of the prepared data set.
    """
    predict = remembering(predict)
    scores = usecase.score(predict, folder, split)
    statistics = usecase.statistics(predict, folder, split) if isinstance(usecase, HasStatistics) else None
    return Scored(usecase.monitor, scores, statistics)


def compare(candidate: Scored, reference: Scored) -> Comparison:
    """The difference of two predictors on the same split, with its paired interval where both can be taken apart by example."""
    one, other = candidate.statistics, reference.statistics
    gain = difference(one, other) if one is not None and other is not None else None
    return Comparison(score=candidate.value, reference=reference.value, gain=gain)


def compare_bundles(candidate: OnnxModel, reference: OnnxModel, dataset: Dataset) -> Comparison:
    """A bundle against another one on the validation split of the data that both were made from."""
    one, other = (score_split(m.usecase, open_bundle(m.folder, threads=0).predict, dataset.folder) for m in (candidate, reference))
    return compare(one, other)


def remembering(predict: Predict, memory: int = MAX_MEMORY) -> Predict:
    """The same predictor, which is not run a second time on a batch whose outputs fit the memory (bytes)."""
    known: dict[bytes, Arrays] = {}
    left = memory

    def answer(inputs: Arrays) -> Arrays:
        nonlocal left
        key = _digest(inputs)
        if key in known:
            return dict(known[key])
        outputs = predict(inputs)
        size = sum(array.nbytes for array in outputs.values())
        if size <= left:
            left -= size
            known[key] = dict(outputs)
        return outputs

    return answer


def _digest(inputs: Arrays) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for name, array in sorted(inputs.items()):
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        found.update(array.tobytes())
    return found.digest()
