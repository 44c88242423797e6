"""Within the budget as fast or small as can be: what promises most is tried first, and what comes of it leads to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from prefect import task

from tasks import store
from tasks.compression.growing import largest
from tasks.contract.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.contract.errors import SettingError, TrainingError
from tasks.contract.records import Record
from tasks.export import export
from tasks.prune import prune
from tasks.quantize import quantize
from tasks.quantize_aware import quantize_aware
from tasks.reporting.terminal import remark
from tasks.settings import Budget, Compression, Pruning, QuantizationAwareness, Sparsification
from tasks.sparsify import sparsify

Named = tuple[Checkpoint, str]
"""What was made, and what it is called."""

NEAR = 4  # budgets: what loses less may come back within one by learning on


@task(persist_result=False)
def compress(checkpoint: Checkpoint, full: OnnxModel, dataset: Dataset, compression: Compression, budget: Budget) -> list[OnnxModel]:
    """Candidates from a trained network, each grown from the one before that was still within the budget of quality on validation.

    1. The network as it is, quantised.
    2. Pruned as far as its quality allows, which is looked for by bisection, recovered, and quantised; on the way there, too.
    3. What was pruned a little too far, having learnt on, with the rounding of int8; or, where there is nothing of that kind and int8 costs
       the smallest so far too much, that one.
    4. Where the budget is of size: the same with many weights of zero.

    Nothing is trained or measured twice: a search that was ended goes on where it was, and with more time it goes further.

    Args:
        checkpoint: the trained network.
        full: the same, exported.
    """
    found = quantize(full, dataset, budget)
    if not compression.epochs:
        return found
    ends = time.monotonic() + 60 * compression.search_minutes if compression.search_minutes else float("inf")

    def candidates(made: Checkpoint, label: str) -> list[OnnxModel]:
        exported = export(made, dataset, label, "compressed")
        return [exported, *quantize(exported, dataset, budget)]

    latest, best, label = found, checkpoint, ""
    pruned, beyond = _pruned(checkpoint, dataset, compression, budget, ends)
    for best, label in pruned:
        latest = candidates(best, label)
        found = [*found, *latest]

    def worth_learning_on() -> Iterator[Named]:
        yield from beyond
        if not any(_keeps(model, checkpoint, dataset, budget) for model in latest if model.label != label):
            yield best, label

    awareness = QuantizationAwareness(**compression.recovering())
    for made, name in worth_learning_on() if time.monotonic() < ends else ():
        name = f"{name} int8-aware".strip()
        aware = _attempt(name, partial(quantize_aware, made, dataset, awareness)) if time.monotonic() < ends else None
        if aware is not None and _lost(aware, checkpoint, budget, name) <= 1:
            best, label = aware, name
            found += candidates(best, label)
            break
    if time.monotonic() < ends and compression.sparsity and (budget.objective == "size" or budget.max_megabytes):
        name = f"{label} {100 * compression.sparsity:g} % zeros".strip()
        zeros = Sparsification(**compression.recovering(), share=compression.sparsity)
        sparse = _attempt(name, lambda: sparsify(best, dataset, zeros))
        if sparse is not None and _lost(sparse, checkpoint, budget, name) <= 1:
            found += candidates(sparse, name)
    return found


def _pruned(
    checkpoint: Checkpoint, dataset: Dataset, compression: Compression, budget: Budget, ends: float
) -> tuple[list[Named], list[Named]]:
    """What was pruned on the way to as much as may be and is within the budget, the smallest last; and what was pruned a step too far, if any."""
    from tasks.compression.pruning import is_prunable

    if not compression.shares or not is_prunable(checkpoint, dataset):
        return [], []
    fine: dict[float, Named] = {}
    beyond: dict[float, Named] = {}

    def is_fine(share: float) -> bool:
        if time.monotonic() >= ends:
            return False
        pruning = Pruning(**compression.recovering(), share=share, rounds=compression.rounds)
        made = _attempt(pruning.label, lambda: prune(checkpoint, dataset, pruning))
        lost = _lost(made, checkpoint, budget, pruning.label) if made is not None else NEAR
        if made is not None and lost < NEAR:
            (fine if lost <= 1 else beyond)[share] = made, pruning.label
        return share in fine

    largest(compression.shares, is_fine)
    return [fine[share] for share in sorted(fine)], [beyond[share] for share in sorted(beyond)[:1]]


def _attempt(what: str, make: Callable[[], Checkpoint | None]) -> Checkpoint | None:
    """None where it fails: what was found so far is not lost by it."""
    try:
        return make()
    except (TrainingError, SettingError) as error:
        remark(f"{what}: {error}")
        return None


def _lost(made: Checkpoint, whole: Checkpoint, budget: Budget, what: str) -> float:
    """The loss of quality on validation, in budgets."""
    monitor = whole.usecase.monitor
    lost, allowed = whole.scores[monitor] - made.scores[monitor], budget.allowed(whole.scores[monitor])
    share = max(0.0, lost) / allowed if allowed else float("inf") if lost > 0 else 0.0
    verdict = "goes on from here" if share <= 1 else "near enough to learn on" if share < NEAR else "is not followed up"
    remark(f"{what}: {monitor} {-100 * lost:+.2f} points on validation, a loss of {100 * allowed:.2f} is allowed: {verdict}")
    return share


class Validated(Record):
    score: float


def _keeps(model: OnnxModel, whole: Checkpoint, dataset: Dataset, budget: Budget) -> bool:
    """Whether a candidate is within the budget of quality on validation."""
    from tasks.serving.bundle import open_bundle

    usecase = model.usecase

    def measure() -> Validated:
        return Validated(score=usecase.score(open_bundle(model.folder, threads=0).predict, dataset.folder, "validation")[usecase.monitor])

    known, _ = store.remember(Validated, {}, measure, (model, dataset))
    reference = whole.scores[usecase.monitor]
    return reference - known.score <= budget.allowed(reference)
