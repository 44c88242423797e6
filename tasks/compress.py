"""Within the budget as fast or small as can be: what promises most is tried first, and what comes of it leads to the next."""

from __future__ import annotations

import time
from collections.abc import Callable

from prefect import task

from tasks import store
from tasks.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.compression.growing import largest
from tasks.errors import SettingError, TrainingError
from tasks.export import export
from tasks.prune import prune
from tasks.quantize import quantize
from tasks.quantize_aware import quantize_aware
from tasks.reporting.terminal import remark
from tasks.settings import Budget, Compression, Pruning, QuantizationAwareness, Sparsification
from tasks.sparsify import sparsify
from tasks.usecase import Record

Judge = Callable[[Checkpoint | None, str], bool]


@task(persist_result=False)
def compress(checkpoint: Checkpoint, full: OnnxModel, dataset: Dataset, compression: Compression, budget: Budget) -> list[OnnxModel]:
    """Candidates from a trained network, each grown from the one before that was still within the budget of quality on validation.

    1. The network as it is, quantised.
    2. Pruned as far as its quality allows, which is looked for by bisection, recovered, and quantised; on the way there, too.
    3. Where int8 costs the smallest so far too much: the same, having learnt to live with int8.
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

    def within(made: Checkpoint | None, what: str) -> bool:
        return made is not None and _is_within(made, checkpoint, budget, what)

    def candidates(made: Checkpoint, label: str) -> list[OnnxModel]:
        exported = export(made, dataset, label, "compressed")
        return [exported, *quantize(exported, dataset, budget)]

    latest, best, label = found, checkpoint, ""
    for best, label in _pruned(checkpoint, dataset, compression, within, ends):
        latest = candidates(best, label)
        found = [*found, *latest]
    if time.monotonic() < ends and not any(_keeps(model, checkpoint, dataset, budget) for model in latest if model.label != label):
        name = f"{label} int8-aware".strip()
        aware = _attempt(name, lambda: quantize_aware(best, dataset, QuantizationAwareness(**compression.recovering())))
        if within(aware, name):
            assert aware is not None
            best, label = aware, name
            found += candidates(best, label)
    if time.monotonic() < ends and compression.sparsity and (budget.objective == "size" or budget.max_megabytes):
        name = f"{label} {100 * compression.sparsity:g} % zeros".strip()
        zeros = Sparsification(**compression.recovering(), share=compression.sparsity)
        sparse = _attempt(name, lambda: sparsify(best, dataset, zeros))
        if within(sparse, name):
            assert sparse is not None
            found += candidates(sparse, name)
    return found


def _pruned(checkpoint: Checkpoint, dataset: Dataset, compression: Compression, within: Judge, ends: float) -> list[tuple[Checkpoint, str]]:
    """What was pruned on the way to as much as may be and was within the budget, and what it is called; the smallest last."""
    from tasks.compression.pruning import is_prunable

    if not compression.shares or not is_prunable(checkpoint, dataset):
        return []
    fine: dict[float, tuple[Checkpoint, str]] = {}

    def is_fine(share: float) -> bool:
        if time.monotonic() >= ends:
            return False
        pruning = Pruning(**compression.recovering(), share=share, rounds=compression.rounds)
        made = _attempt(pruning.label, lambda: prune(checkpoint, dataset, pruning))
        if made is None or not within(made, pruning.label):
            return False
        fine[share] = made, pruning.label
        return True

    largest(compression.shares, is_fine)
    return [made for _, made in sorted(fine.items())]


def _attempt(what: str, make: Callable[[], Checkpoint | None]) -> Checkpoint | None:
    """None where it fails: what was found so far is not lost by it."""
    try:
        return make()
    except (TrainingError, SettingError) as error:
        remark(f"{what}: {error}")
        return None


def _is_within(made: Checkpoint, whole: Checkpoint, budget: Budget, what: str) -> bool:
    monitor = whole.usecase.monitor
    lost, allowed = whole.scores[monitor] - made.scores[monitor], budget.allowed(whole.scores[monitor])
    verdict = "goes on from here" if lost <= allowed else "is not followed up"
    remark(f"{what}: {monitor} {-100 * lost:+.2f} points on validation, a loss of {100 * allowed:.2f} is allowed: {verdict}")
    return lost <= allowed


class Validated(Record):
    score: float


def _keeps(model: OnnxModel, whole: Checkpoint, dataset: Dataset, budget: Budget) -> bool:
    """Whether a candidate is within the budget of quality on validation."""
    from tasks.serving.bundle import open_bundle

    usecase = model.usecase

    def measure() -> Validated:
        return Validated(score=usecase.score(open_bundle(model.folder).predict, dataset.folder, "validation")[usecase.monitor])

    recipe = {"model": model.digest, "data": dataset.digest, "code": store.code_version("tasks.serving", usecase.package())}
    known, _ = store.remember(Validated, recipe, measure)
    reference = whole.scores[usecase.monitor]
    return reference - known.score <= budget.allowed(reference)
