"""Comparison of predictors on a split, and the rule whether a loss of quality on the validation split is accepted."""

from __future__ import annotations

import hashlib
import math
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

MAX_CHANCE = 2  # times the accepted loss, up to which a loss is accepted if it is not significant
ROUNDING = 1e-9  # of scores, which are differences and quotients of floating-point numbers
MAX_MEMORY = 200_000_000  # bytes of outputs that are cached while a split is scored


@dataclass(frozen=True)
class Scored:
    """Scores of a predictor on one split, with per-example statistics of the monitored score if the use case `HasStatistics`."""

    monitor: str
    scores: dict[str, float]
    statistics: Statistics | None = None

    @property
    def value(self) -> float:
        """The monitored score."""
        return self.scores[self.monitor]


class Comparison(Record):
    """Scores of a candidate and a reference on the same examples of the validation split."""

    score: float = Field(description="monitored score of the candidate")
    reference: float = Field(description="monitored score of the reference")
    gain: Interval | None = Field(
        default=None, description="candidate's score minus the reference's, with its paired interval; None: no per-example statistics"
    )

    @property
    def loss(self) -> float:
        """Score of the reference minus that of the candidate."""
        return self.reference - self.score

    def is_within(self, allowed: float) -> bool:
        """Whether the loss is accepted, see the function `is_within`."""
        return is_within(self.loss, self.gain, allowed)


def is_within(loss: float, gain: Interval | None, allowed: float) -> bool:
    """Whether a loss of quality on the validation split is accepted. All choices of the project follow this rule.

    Args:
        loss: score of the reference minus that of the candidate.
        gain: candidate's score minus the reference's, with its paired interval; None: the loss alone decides.
        allowed: largest loss that the budget accepts. Up to twice as much is accepted if the loss is not significant, which means that the
            interval contains a gain of zero.

    Returns:
        True if the loss is accepted.
    """
    return _at_most(loss, allowed) or (gain is not None and gain.high >= 0 and _at_most(loss, MAX_CHANCE * allowed))


def _at_most(loss: float, allowed: float) -> bool:
    """Whether a loss is accepted; a loss that differs from the accepted one only by rounding is, one that is not a number is not."""
    return loss <= allowed or math.isclose(loss, allowed, rel_tol=ROUNDING, abs_tol=ROUNDING)


def or_worst(score: float) -> float:
    """The score for a comparison with others: a score that is not a number is worse than every other."""
    return -math.inf if math.isnan(score) else score


def score_split(usecase: UseCase, predict: Predict, folder: Path, split: Split = "validation") -> Scored:
    """Scores and per-example statistics of a predictor, which is run only once on each batch.

    Args:
        usecase: provides the scores.
        predict: a torch module, an ONNX graph or a live server.
        folder: the prepared data.
        split: the split to score.

    Returns:
        The scores, with statistics if the use case has them.
    """
    predict = memoized(predict)
    scores = usecase.score(predict, folder, split)
    statistics = usecase.statistics(predict, folder, split) if isinstance(usecase, HasStatistics) else None
    return Scored(usecase.monitor, scores, statistics)


def compare(candidate: Scored, reference: Scored) -> Comparison:
    """The difference of two predictors on the same split, with its paired interval if both have per-example statistics."""
    one, other = candidate.statistics, reference.statistics
    gain = difference(one, other) if one is not None and other is not None else None
    return Comparison(score=candidate.value, reference=reference.value, gain=gain)


def compare_bundles(candidate: OnnxModel, reference: OnnxModel, dataset: Dataset) -> Comparison:
    """Compare two bundles on the validation split.

    Args:
        candidate: the bundle in question.
        reference: the bundle whose score is subtracted.
        dataset: the prepared data that both were trained on.

    Returns:
        Both scores, and their difference.
    """
    one, other = (score_split(m.usecase, open_bundle(m.folder, threads=0).predict, dataset.folder) for m in (candidate, reference))
    return compare(one, other)


def memoized(predict: Predict, memory: int = MAX_MEMORY) -> Predict:
    """The same predictor with a cache of its outputs, of at most `memory` bytes."""
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
