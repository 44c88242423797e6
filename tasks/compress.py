"""The search for the fastest or smallest network within the budget: one method after the other, each on what the one before it made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prefect import task

from tasks import store
from tasks.compression.bisection import strongest
from tasks.compression.method import Method
from tasks.compression.methods import Compression
from tasks.contract.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.contract.errors import SettingError, TrainingError
from tasks.evaluation.validation import MAX_CHANCE, Comparison, compare_bundles
from tasks.export import export
from tasks.quantize import quantize
from tasks.reporting.terminal import remark
from tasks.settings import Budget
from tasks.shrink import shrink

MAX_NEAR = 4  # budgets: a network that loses less than so many times what is allowed may recover with more training

__all__ = ["Compression", "compress"]


@dataclass(frozen=True)
class Network:
    """A trained network and its name among the candidates; the one before compression has none."""

    checkpoint: Checkpoint
    label: str = ""


@task(persist_result=False)
def compress(checkpoint: Checkpoint, full: OnnxModel, dataset: Dataset, compression: Compression, budget: Budget) -> list[OnnxModel]:
    """Candidates from a trained network: quantised as it is, and after each method of `compression`.

    The strongest level of each method is looked for that keeps the budget of quality on validation, and the next method goes on from
    there. A method that recovers quality is first tried on what the one before it made a little too small. All that keeps the budget
    becomes a candidate, in full precision and quantised.

    Nothing is trained or measured twice: a search that was ended continues where it was, and with more time it goes further.

    Args:
        checkpoint: the trained network.
        full: the same, exported.
    """
    search = Search(checkpoint, full, dataset, compression, budget)
    found = latest = quantize(full, dataset, budget)
    best, near = Network(checkpoint), list[Network]()
    for name, method in compression.chosen(budget).items():
        starts = search.starts(method, best, near, latest)
        near = []
        for start in starts:
            kept, near = search.attempt(name, method, start)
            for best in kept:
                latest = search.candidates(best)
                found = [*found, *latest]
            if kept:
                break
    return found


@dataclass(frozen=True)
class Search:
    """What the attempts of one search share."""

    whole: Checkpoint
    full: OnnxModel
    dataset: Dataset
    compression: Compression
    budget: Budget
    started: float = field(default_factory=time.monotonic)

    def starts(self, method: Method, best: Network, near: Sequence[Network], latest: Sequence[OnnxModel]) -> Iterator[Network]:
        """The networks to try a method on, until one keeps the budget.

        A method that recovers quality is not tried unasked where the smallest network so far keeps the budget in int8.
        """
        quantised = [model for model in latest if model.label != best.label]
        if method.recovers:
            yield from near
            if not self.compression.methods and any(self.keeps_quality(model) for model in quantised):
                return
        yield best

    def attempt(self, name: str, method: Method, start: Network) -> tuple[list[Network], list[Network]]:
        """What keeps the budget on the way to the strongest level that does, the weakest first; and the weakest near miss, if any."""
        kept, missed = dict[float, Network](), dict[float, Network]()

        def is_fine(level: float) -> bool:
            label = f"{start.label} {method.label(level)}".strip()
            if self.is_over():
                return False
            try:
                made = shrink(name, method, level, start.checkpoint, self.whole, self.dataset, self.compression.recovery())
            except (TrainingError, SettingError) as error:  # what was found so far is not lost by it
                remark(f"{label}: {error}")
                return False
            lost = self.lost(Network(made, label))
            if lost <= 1:
                kept[level] = Network(made, label)
            elif lost < MAX_NEAR:
                missed[level] = Network(made, label)
            return level in kept

        levels = method.levels
        if levels and not self.is_over() and method.is_applicable(start.checkpoint, self.dataset):
            strongest(levels, is_fine)
        ordered = [[by_level[level] for level in levels if level in by_level] for by_level in (kept, missed)]
        return ordered[0], ordered[1][:1]

    def is_over(self) -> bool:
        minutes = self.compression.search_minutes
        return minutes > 0 and time.monotonic() - self.started >= 60 * minutes

    def candidates(self, made: Network) -> list[OnnxModel]:
        exported = export(made.checkpoint, self.dataset, made.label, "compressed")
        return [exported, *quantize(exported, self.dataset, self.budget)]

    def lost(self, made: Network) -> float:
        """The loss of quality on validation as a share of what is allowed; at most 1 where chance may explain it (see `Comparison`)."""
        monitor = self.whole.usecase.monitor
        lost, allowed = self.whole.scores[monitor] - made.checkpoint.scores[monitor], self.allowed
        share = max(0.0, lost) / allowed if allowed else float("inf") if lost > 0 else 0.0
        if 1 < share <= MAX_CHANCE and self.keeps_quality(export(made.checkpoint, self.dataset, made.label, "compressed")):
            share = 1.0
        verdict = "is kept" if share <= 1 else "may recover" if share < MAX_NEAR else "is not followed up"
        remark(f"{made.label}: {monitor} {-lost:+.4f} on validation, a loss of {allowed:.4f} is allowed: {verdict}")
        return share

    @property
    def allowed(self) -> float:
        return self.budget.allowed(self.whole.scores[self.whole.usecase.monitor])

    def keeps_quality(self, model: OnnxModel) -> bool:
        """Whether a candidate is within the budget of quality on validation."""

        def measured() -> Comparison:
            return compare_bundles(model, self.full, self.dataset)

        known, _ = store.remember(Comparison, {}, measured, (model, self.full, self.dataset))
        return known.is_within(self.allowed)
