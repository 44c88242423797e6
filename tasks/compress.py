"""The search for the fastest or smallest network within the budget; each method is applied to the result of the one before it."""

from __future__ import annotations

import math
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
from tasks.evaluation.validation import MAX_CHANCE, Comparison, compare_bundles, is_within
from tasks.export import export
from tasks.quantize import quantize
from tasks.reporting.terminal import remark
from tasks.settings import Budget
from tasks.shrink import shrink

MAX_NEAR = 4  # times the allowed loss: a network that loses less may recover with more training

__all__ = ["Compression", "compress"]


@dataclass(frozen=True)
class Network:
    """A trained network and the label of its candidate; the label is empty before compression."""

    checkpoint: Checkpoint
    label: str = ""


@task(persist_result=False)
def compress(checkpoint: Checkpoint, full: OnnxModel, dataset: Dataset, compression: Compression, budget: Budget) -> list[OnnxModel]:
    """Candidates from a trained network: quantised without compression, and after each method of `compression`.

    For each method, the search finds the strongest level that is within the budget on the validation split, and the next method starts
    from there. A method that recovers quality is first tried on networks that the method before made slightly too small. Every network
    within the budget becomes a candidate, in full precision and quantised.

    Results are found in the store: an interrupted search continues, and one with more time goes further.

    Args:
        checkpoint: the trained network.
        full: the exported network.
        dataset: to recover and measure on.
        compression: the methods and how to recover.
        budget: the loss of quality that is allowed.

    Returns:
        The candidates, without `full` itself.
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
    """The state of a search."""

    whole: Checkpoint
    full: OnnxModel
    dataset: Dataset
    compression: Compression
    budget: Budget
    started: float = field(default_factory=time.monotonic)

    def starts(self, method: Method, best: Network, near: Sequence[Network], latest: Sequence[OnnxModel]) -> Iterator[Network]:
        """The networks to try a method on, until one is within the budget.

        A method that recovers quality is skipped if no methods were requested and the smallest network so far is within the budget in int8.

        Args:
            method: to try.
            best: the smallest network within the budget so far.
            near: networks slightly outside the budget.
            latest: candidates from `best`.

        Yields:
            Networks to start from.
        """
        quantised = [model for model in latest if model.label != best.label]
        if method.recovers:
            yield from near
            if not self.compression.methods and any(self.keeps_quality(model) for model in quantised):
                return
        yield best

    def attempt(self, name: str, method: Method, start: Network) -> tuple[list[Network], list[Network]]:
        """Search for the strongest level of a method that is within the budget.

        Args:
            name: of the method.
            method: with its settings.
            start: the network to compress.

        Returns:
            The networks within the budget, by increasing level, and at most one network slightly outside it, with the lowest level.
        """
        kept, missed = dict[float, Network](), dict[float, Network]()

        def is_within_budget(level: float) -> bool:
            label = f"{start.label} {method.label(level)}".strip()
            if self.is_over():
                return False
            try:
                made = shrink(name, method, level, start.checkpoint, self.whole, self.dataset, self.compression.recovery())
            except (TrainingError, SettingError) as error:  # keeps the results so far
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
            strongest(levels, is_within_budget)
        ordered = [[by_level[level] for level in levels if level in by_level] for by_level in (kept, missed)]
        return ordered[0], ordered[1][:1]

    def is_over(self) -> bool:
        minutes = self.compression.search_minutes
        return minutes > 0 and time.monotonic() - self.started >= 60 * minutes

    def candidates(self, made: Network) -> list[OnnxModel]:
        exported = export(made.checkpoint, self.dataset, made.label, "compressed")
        return [exported, *quantize(exported, self.dataset, self.budget)]

    def lost(self, made: Network) -> float:
        """The loss of quality on validation, divided by the allowed loss; at most 1 if chance may explain the loss (see `Comparison`)."""
        monitor = self.whole.usecase.monitor
        loss, allowed = self.whole.scores[monitor] - made.checkpoint.scores[monitor], self.allowed
        share = loss / allowed if allowed and math.isfinite(loss) else float("inf")
        if is_within(loss, None, allowed):
            share = min(1.0, max(0.0, share))
        if 1 < share <= MAX_CHANCE and self.keeps_quality(export(made.checkpoint, self.dataset, made.label, "compressed")):
            share = 1.0
        verdict = "within the budget" if share <= 1 else "may recover" if share < MAX_NEAR else "outside the budget"
        remark(f"{made.label}: {monitor} {-loss:+.4f} on validation; a loss of {allowed:.4f} is allowed: {verdict}")
        return share

    @property
    def allowed(self) -> float:
        return self.budget.allowed(self.whole.scores[self.whole.usecase.monitor])

    def keeps_quality(self, model: OnnxModel) -> bool:
        """Whether the loss of quality of a candidate on validation is within the budget."""

        def measured() -> Comparison:
            return compare_bundles(model, self.full, self.dataset)

        comparison, _ = store.remember(Comparison, {}, measured, (model, self.full, self.dataset))
        return comparison.is_within(self.allowed)
