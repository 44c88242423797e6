"""The search for the best recipe of quantisation: the promising ones are tried and measured, since none is best for every graph."""

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
MAX_RANKED = 100  # operators whose error is measured, since each needs a graph and a session
FASTER = 1.05  # factor by which a recipe has to be faster to be worth the effort
SAME_LATENCY = 1.1  # latencies whose ratio is below this are taken as equal; among them, the best quality is chosen


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried, and its result."""

    recipe: Recipe
    bundle: Bundle
    comparison: Comparison
    """With the full-precision graph, on the validation split."""
    megabytes: float

    @property
    def loss(self) -> float:
        """Validation score of the full-precision graph minus that of the quantised one."""
        return self.comparison.loss

    def is_within(self, budget: Budget) -> bool:
        """Whether the loss is within the budget of quality (see `tasks.evaluation.validation.is_within`)."""
        return self.comparison.is_within(budget.max_loss)


def search(model: OnnxModel, dataset: Dataset, budget: Budget, say: Say = silently, exhaustive: bool = False) -> Search:
    """Try recipes: score each on the validation split, and time it in turns with the full-precision graph.

    The best recipe of a kind is the fastest, or the smallest, within the budget of quality. The most promising recipe is tried first, and
    those that cannot win any more are skipped (see `is_worth_trying`). If all recipes of a kind miss the budget but one would be the fastest, the
    operators with the largest errors stay in float, as few as are necessary.

    Args:
        model: in full precision.
        dataset: the prepared data on which it was trained.
        budget: accepted loss of quality, objective and target processor.
        say: shows a progress message.
        exhaustive: whether to try every recipe.

    Returns:
        The recipes that become candidates, and a row for each recipe that was tried.
    """
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(model, dataset, Path(scratch), say)
        budget = budget.model_copy(update={"max_loss": budget.allowed(bench.base.value)})
        offered, counts, skipped = recipes(bench.quantizer.plain, budget.target), layers(bench.quantizer.plain), []
        for recipe in offered:
            if exhaustive or is_worth_trying(recipe, [(t.recipe, t.comparison) for t in bench.trials], counts, budget):
                bench.attempt(recipe)
            else:
                skipped.append(recipe.label)
        restored = _restore_fast_ones(bench, budget)
        latencies = time_in_turns(bench.calls(), ROUNDS)
    full, timed = latencies[0], dict(zip((t.recipe for t in bench.trials), latencies[1:], strict=True))
    ranked = sorted(bench.trials, key=lambda t: _rank(t, timed[t.recipe], budget))
    rows = [_row(t, t.comparison.score, timed[t.recipe], full, model.usecase.monitor, budget) for t in ranked]
    kinds = dict.fromkeys(t.recipe.kind for t in ranked)
    best = [_best([t for t in bench.trials if t.recipe.kind == kind], timed, budget).recipe for kind in kinds]
    candidates = tuple(t.recipe for t in ranked if t.recipe in (*best, *restored))
    return Search(recipes=candidates, tried=tuple(rows), skipped=tuple(skipped))


def is_worth_trying(recipe: Recipe, trials: Sequence[tuple[Recipe, Comparison]], counts: Counter[str], budget: Budget) -> bool:
    """Whether a recipe could still win, given the recipes tried so far.

    A recipe loses measurably if it loses more than half of the accepted loss.

    - Another calibration is tried only if minmax loses measurably.
    - The operators after convolutions are quantised, too, unless that loses measurably. All operators are quantised only in convolutional
      graphs, and only if a recipe is within the budget: in others this would cost much quality for a tenth of the time.
    - Convolutions are never quantised dynamically. Matrix products are quantised statically only if dynamic loses measurably. A graph with
      many of both is tried both ways.
    - Weight-only recipes are slower than int8, and in 8 bits no smaller. 8 bits are tried if int8 misses the budget, 4 bits if the budget is
      about size.

    Args:
        recipe: the recipe in question.
        trials: the recipes tried so far, each compared with full precision on the validation split.
        counts: number of nodes of each operator type in the graph.
        budget: accepted loss of quality and objective.

    Returns:
        True if the recipe is to be tried.
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
    """Tries recipes. Recipes that give the same graph are scored and timed only once."""

    def __init__(self, model: OnnxModel, dataset: Dataset, scratch: Path, say: Say) -> None:
        self.model, self.dataset, self.scratch, self.say = model, dataset, scratch, say
        self.quantizer = Quantizer(model, dataset, scratch)
        self.reference = open_bundle(model.folder)
        self.base = self._score(self.reference)
        self.trials: list[Trial] = []
        self.seen: dict[str, Trial] = {}

    def attempt(self, recipe: Recipe) -> Trial:
        """Quantise and score by a recipe; the trial is added to `trials` if no other recipe gave the same graph."""
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
        """Functions that run one request: on the full-precision graph, and on the graph of each trial, in order."""
        one = real_inputs(self.model, self.dataset, 1)
        return [partial(bundle.predict, one) for bundle in (self.reference, *(trial.bundle for trial in self.trials))]

    def _score(self, bundle: Bundle) -> Scored:
        return score_split(self.model.usecase, bundle.predict, self.dataset.folder)


def _restore_fast_ones(bench: Bench, budget: Budget) -> dict[Recipe, Recipe]:
    """Recipes that miss the budget but are faster than all within it, and for each the same recipe with some operators in float.

    Of each kind, the most accurate of the fastest recipes is taken. Intermediate attempts are removed from the trials.
    """
    if all(trial.is_within(budget) for trial in bench.trials):
        return {}
    plain, (full, *latencies) = list(bench.trials), time_in_turns(bench.calls(), ROUNDS)
    p50 = {trial.recipe: latency.p50 for trial, latency in zip(plain, latencies, strict=True)}
    restored = {}
    for kind in ("static", "dynamic", "weights"):
        missing = [trial for trial in plain if trial.recipe.kind == kind and not trial.is_within(budget)]
        within = [trial for trial in plain if trial.is_within(budget)]
        if not missing or any(trial.recipe.kind == kind for trial in within):
            continue
        least = min(p50[trial.recipe] for trial in missing)
        fastest = min((t for t in missing if p50[t.recipe] < least * SAME_LATENCY), key=lambda trial: trial.loss).recipe
        if p50[fastest] * FASTER < min([full.p50, *(p50[trial.recipe] for trial in within)]):
            found = restore_float(bench, fastest, budget)
            if found:
                restored[fastest] = found
    bench.trials = [trial for trial in bench.trials if trial in plain or trial.recipe in restored.values()]
    return restored


def restore_float(bench: Bench, recipe: Recipe, budget: Budget) -> Recipe | None:
    """Keep the operators with the largest errors in float, as few as are necessary for the budget of quality.

    Args:
        bench: tries the recipes.
        recipe: a recipe that misses the budget.
        budget: accepted loss of quality.

    Returns:
        The recipe with some operators in float; None if there is none within the budget, which a progress message explains.
    """
    operators = operators_of(bench.quantizer.prepared, recipe)
    if len(operators) > MAX_RANKED:
        bench.say(f"{recipe.label} is fast, but misses the budget; its {len(operators)} operators are too many to measure each of them")
        return None
    bench.say(f"{recipe.label} is fast, but misses the budget; measuring the error of each operator")
    ranked = rank_operators(bench.quantizer, recipe, bench.say)
    found = fewest_in_float(recipe, ranked, lambda candidate: bench.attempt(candidate).is_within(budget))
    bench.say(found.label if found else f"{recipe.label} misses the budget even with half of its {len(ranked)} operators in float")
    return found


def _rank(trial: Trial, latency: Latency, budget: Budget) -> tuple[bool, float]:
    """The key to sort trials by: those within the budget first, then the fastest or the smallest, according to the objective."""
    too_large = 0 < budget.max_megabytes < trial.megabytes
    return not trial.is_within(budget) or too_large, trial.megabytes if budget.objective == "size" else latency.p50


def _best(trials: Sequence[Trial], timed: Mapping[Recipe, Latency], budget: Budget) -> Trial:
    """The first trial by `_rank`; among equal latencies the one with the least loss, so that noise does not change the choice."""
    ranks = {trial.recipe: _rank(trial, timed[trial.recipe], budget) for trial in trials}
    missed, least = min(ranks.values())
    noise = 1.0 if budget.objective == "size" else SAME_LATENCY
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
