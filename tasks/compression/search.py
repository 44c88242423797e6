"""No fixed recipe wins: those that are worth it are tried and measured."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tasks.compression.quantize import Quantizer
from tasks.compression.recipes import FOLLOWERS, Recipe, Search, is_convolutional, is_here, is_mixed, layers, recipes
from tasks.compression.sensitivity import fewest_in_float, operators_of, rank_operators
from tasks.contract.artifacts import Dataset, Latency, OnnxModel
from tasks.contract.types import Say, silently
from tasks.evaluation.measure import real_inputs, time_in_turns
from tasks.evaluation.validation import Comparison, Scored, compare, score_split
from tasks.exporting.bundle import pack
from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.graph_files import GRAPH, PACKED, stored_graph
from tasks.settings import Budget

ROUNDS = 6
MOST_RANKED = 100  # operators, at a graph and a session each
FASTER = 1.05  # than full precision, from which it counts
ALIKE = 1.1  # latencies closer than that are one: of those the best in quality is chosen, or mended


@dataclass(frozen=True)
class Trial:
    recipe: Recipe
    bundle: Bundle
    comparison: Comparison
    """With the full-precision graph, on validation."""
    megabytes: float

    @property
    def loss(self) -> float:
        return self.comparison.loss

    def is_within(self, budget: Budget) -> bool:
        """Whether the budget of quality accepts the loss, or the examples are too few to tell it from none."""
        return self.comparison.is_within(budget.max_loss)


def search(model: OnnxModel, dataset: Dataset, budget: Budget, say: Say = silently, exhaustive: bool = False) -> Search:
    """Try recipes on validation and on the clock, in turns with the full-precision graph.

    Best is the fastest, or the smallest, of a kind that is within the budget of the full-precision graph's score. The most promising recipe
    comes first, and what could not win then is skipped (see `is_wanted`). Where a kind misses the budget but would be the fastest, the
    operators that suffer most are given back to float, as few as will do.

    Args:
        model: in full precision.
        dataset: what it was trained on.
        budget: of quality; and what it is to run on.
        say: told what is tried.
        exhaustive: try every recipe.
    """
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(model, dataset, Path(scratch), say)
        budget = budget.model_copy(update={"max_loss": budget.allowed(bench.base.value)})
        offered, counts, skipped = recipes(bench.quantizer.plain, budget.target), layers(bench.quantizer.plain), []
        for recipe in offered:
            if exhaustive or is_wanted(recipe, [(t.recipe, t.comparison) for t in bench.trials], counts, budget):
                bench.attempt(recipe)
            else:
                skipped.append(recipe.label)
        mended = _mend_fast_ones(bench, budget)
        latencies = time_in_turns(bench.calls(), ROUNDS)
    full, timed = latencies[0], dict(zip((t.recipe for t in bench.trials), latencies[1:], strict=True))
    ranked = sorted(bench.trials, key=lambda t: _rank(t, timed[t.recipe], budget))
    rows = [_row(t, t.comparison.score, timed[t.recipe], full, model.usecase.monitor, budget) for t in ranked]
    kinds = dict.fromkeys(t.recipe.kind for t in ranked)
    best = [_best([t for t in bench.trials if t.recipe.kind == kind], timed, budget).recipe for kind in kinds]
    candidates = tuple(t.recipe for t in ranked if t.recipe in (*best, *mended))
    return Search(recipes=candidates, tried=tuple(rows), skipped=tuple(skipped))


def is_wanted(recipe: Recipe, trials: Sequence[tuple[Recipe, Comparison]], counts: Counter[str], budget: Budget) -> bool:
    """Whether a recipe could still win, given how those tried so far compare with full precision on validation.

    - Another calibration only where the one before it loses measurably: more than half of what is allowed.
    - Of convolutions, what follows them stays in int8 unless that loses measurably, and all else joins only where that is within the
      budget; among matrix products all else would spoil the answers for a tenth of the time.
    - Dynamic for convolutions, never, and static for matrix products only where dynamic loses measurably; both where the graph has many
      of both.
    - Weights alone are slower than int8 and in 8 bits no smaller: in 8 bits where int8 misses the budget, in 4 where it is size that
      counts.
    """
    if recipe.kind == "fp16" or not trials:
        return True
    same_kind = [tried for tried, _ in trials if tried.kind == recipe.kind]
    fine = [tried for tried, compared in trials if compared.loss <= budget.max_loss / 2 and tried.kind in ("static", "dynamic")]
    within = any(compared.is_within(budget.max_loss) for _, compared in trials)
    if recipe.kind == "weights":
        return not within if recipe.bits == 8 else budget.objective == "size" or budget.max_megabytes > 0
    if any(tried not in same_kind for tried in fine) and not is_mixed(counts):
        return False
    if recipe.kind == "dynamic" or not same_kind:
        return recipe.kind == "static" or not is_convolutional(counts) or is_mixed(counts)
    if recipe.calibration != "minmax":
        return not any(tried.operators == recipe.operators for tried in fine)
    if not recipe.operators:
        return within and is_convolutional(counts)
    return set(FOLLOWERS) <= set(recipe.operators) or not any(tried in same_kind for tried in fine)


class Bench:
    """Tries recipes; the same graph is never scored or timed twice, whatever recipe it came from."""

    def __init__(self, model: OnnxModel, dataset: Dataset, scratch: Path, say: Say) -> None:
        self.model, self.dataset, self.scratch, self.say = model, dataset, scratch, say
        self.quantizer = Quantizer(model, dataset, scratch)
        self.reference = open_bundle(model.folder)
        self.base = self._score(self.reference)
        self.trials: list[Trial] = []
        self.seen: dict[str, Trial] = {}

    def attempt(self, recipe: Recipe) -> Trial:
        """The trial of a recipe, which joins `trials` where its graph is a new one."""
        self.say(recipe.label)
        folder = self.scratch / f"trial-{len(self.seen)}"
        shutil.copytree(self.model.folder, folder, ignore=shutil.ignore_patterns(GRAPH, PACKED, "manifest.json"), dirs_exist_ok=True)
        self.quantizer.write(recipe, folder / GRAPH)
        digest = hashlib.sha256((folder / GRAPH).read_bytes()).hexdigest()
        if digest not in self.seen:
            pack(folder)
            bundle, megabytes = open_bundle(folder), stored_graph(folder).stat().st_size / 1e6
            self.seen[digest] = Trial(recipe, bundle, compare(self._score(bundle), self.base), megabytes)
            self.trials.append(self.seen[digest])
        return self.seen[digest]

    def calls(self) -> list[partial[object]]:
        """One request each: of the full-precision graph, and of the trials in their order."""
        one = real_inputs(self.model, self.dataset, 1)
        return [partial(bundle.predict, one) for bundle in (self.reference, *(trial.bundle for trial in self.trials))]

    def _score(self, bundle: Bundle) -> Scored:
        return score_split(self.model.usecase, bundle.predict, self.dataset.folder)


def _mend_fast_ones(bench: Bench, budget: Budget) -> dict[Recipe, Recipe]:
    """By recipes that miss the budget but are faster than all within it, the same with the worst operators in float.

    They are looked for in the best of the fastest recipes of each kind; what was tried on the way is forgotten.
    """
    if all(trial.is_within(budget) for trial in bench.trials):
        return {}
    plain, (full, *latencies) = list(bench.trials), time_in_turns(bench.calls(), ROUNDS)
    p50 = {trial.recipe: latency.p50 for trial, latency in zip(plain, latencies, strict=True)}
    mended = {}
    for kind in ("static", "dynamic", "weights"):
        missing = [trial for trial in plain if trial.recipe.kind == kind and not trial.is_within(budget)]
        within = [trial for trial in plain if trial.is_within(budget)]
        if not missing or any(trial.recipe.kind == kind for trial in within):
            continue
        least = min(p50[trial.recipe] for trial in missing)
        fastest = min((t for t in missing if p50[t.recipe] < least * ALIKE), key=lambda trial: trial.loss).recipe
        if p50[fastest] * FASTER < min([full.p50, *(p50[trial.recipe] for trial in within)]):
            found = mend(bench, fastest, budget)
            if found:
                mended[fastest] = found
    bench.trials = [trial for trial in bench.trials if trial in plain or trial.recipe in mended.values()]
    return mended


def mend(bench: Bench, recipe: Recipe, budget: Budget) -> Recipe | None:
    """The recipe with the fewest operators in float that is within the budget; None, and the reason said: there is none."""
    operators = operators_of(bench.quantizer.prepared, recipe)
    if len(operators) > MOST_RANKED:
        bench.say(f"{recipe.label} is fast, but misses the budget; its {len(operators)} operators are too many to measure each")
        return None
    bench.say(f"{recipe.label} is fast, but misses the budget: which operators suffer most?")
    ranked = rank_operators(bench.quantizer, recipe, bench.say)
    found = fewest_in_float(recipe, ranked, lambda candidate: bench.attempt(candidate).is_within(budget))
    bench.say(found.label if found else f"{recipe.label} misses the budget with half of its {len(ranked)} operators in float, too")
    return found


def _rank(trial: Trial, latency: Latency, budget: Budget) -> tuple[bool, float]:
    """Within the budget first, and then the fastest or the smallest, as is asked for."""
    too_large = 0 < budget.max_megabytes < trial.megabytes
    return not trial.is_within(budget) or too_large, trial.megabytes if budget.objective == "size" else latency.p50


def _best(trials: Sequence[Trial], timed: Mapping[Recipe, Latency], budget: Budget) -> Trial:
    """The first by `_rank`; of those as fast but for the noise of the clock the one that loses least, so that the same is chosen again."""
    ranks = {trial.recipe: _rank(trial, timed[trial.recipe], budget) for trial in trials}
    missed, least = min(ranks.values())
    noise = 1.0 if budget.objective == "size" else ALIKE
    return min((t for t in trials if ranks[t.recipe] <= (missed, least * noise)), key=lambda trial: trial.loss)


def _row(trial: Trial, score: float, latency: Latency, full: Latency, monitor: str, budget: Budget) -> dict[str, float | str]:
    row: dict[str, float | str] = {
        "label": trial.recipe.label,
        monitor: round(score, 4),
        "p50 ms": round(latency.p50, 4),
        "times faster": round(full.p50 / latency.p50, 2),
        "MB": round(trial.megabytes, 3),
    }
    return row if is_here(budget.target) else {**row, "timed": f"on this machine's CPU, not on {budget.target}"}
