"""Which candidate is released, and in words why each other one is not."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contract.artifacts import Evaluation, Rejection
from tasks.settings import Budget

FORGIVEN = 2  # times the loss that the budget allows, where the examples are too few to tell it from none
ALIKE = 0.05  # latencies closer than this share are one: the machine is noisier


def choose(evaluations: Sequence[Evaluation], monitor: str, budget: Budget) -> tuple[Evaluation, str, list[Rejection]]:
    """The fastest, or smallest, candidate whose quality is within the budget of the best that was not compressed.

    That is the full-precision graph, or a baseline where one is better than what was trained.

    Where none is within the budget, the best in quality is chosen and the reason says that the budget was missed.

    Returns the chosen one, the reason in words, and the others, each with its reason.
    """
    reference = reference_of(evaluations, monitor)
    misses = {id(e): over_budget(e, reference, monitor, budget) for e in evaluations}
    within = [e for e in evaluations if not misses[id(e)]]
    if not within:
        chosen = max(evaluations, key=lambda e: e.scores[monitor])
        reason = f"No candidate is within the budget; this one has the best {monitor}, but {misses[id(chosen)]}."
        return chosen, reason, [Rejection(evaluation=e, reason=_sentence(misses[id(e)])) for e in evaluations if e is not chosen]
    chosen = _cheapest(within, budget)
    rejected = [
        Rejection(evaluation=e, reason=_sentence(misses[id(e)] or _why_not(e, chosen, budget))) for e in evaluations if e is not chosen
    ]
    return chosen, _why(chosen, reference, monitor, budget, len(within)), rejected


def reference_of(evaluations: Sequence[Evaluation], monitor: str) -> Evaluation:
    """What quality is held against: the best candidate that was not compressed."""
    return max((e for e in evaluations if e.model.role != "compressed"), key=lambda e: e.scores[monitor], default=evaluations[0])


def over_budget(candidate: Evaluation, reference: Evaluation, monitor: str, budget: Budget) -> str:
    """What of the budget a candidate misses, in words; empty: nothing."""
    have, want = candidate.scores[monitor], reference.scores[monitor]
    allowed = budget.allowed(want)
    if want - have > allowed and not by_luck(candidate, allowed):
        return f"its {monitor} of {have:.4f} is {100 * (want - have):.2f} points below {reference.label}'s {want:.4f}; {100 * allowed:.2f} are allowed"
    if budget.max_latency_ms and candidate.latency_ms.p95 > budget.max_latency_ms:
        return f"its p95 of {candidate.latency_ms.p95:.2f} ms is over the {budget.max_latency_ms:g} ms allowed"
    if budget.max_megabytes and candidate.megabytes > budget.max_megabytes:
        return f"its {candidate.megabytes:.2f} MB are over the {budget.max_megabytes:g} MB allowed"
    return ""


def by_luck(candidate: Evaluation, allowed: float) -> bool:
    """Whether a loss beyond what is allowed may be nothing but the luck of these examples; one of more than twice as much never is taken for that."""
    return candidate.gain is not None and candidate.gain.high >= 0 and -candidate.gain.measured <= FORGIVEN * allowed


def _cheapest(candidates: Sequence[Evaluation], budget: Budget) -> Evaluation:
    """The smallest; or the fastest, and of those that the clock cannot tell apart the smallest."""
    if budget.objective == "size":
        return min(candidates, key=lambda e: (e.megabytes, e.latency_ms.p50))
    fastest = min(e.latency_ms.p50 for e in candidates)
    alike = [e for e in candidates if e.latency_ms.p50 < fastest * (1 + ALIKE)]
    return min(alike, key=lambda e: e.megabytes)


def _why(chosen: Evaluation, reference: Evaluation, monitor: str, budget: Budget, within: int) -> str:
    best = "smallest" if budget.objective == "size" else "fastest"
    lead = f"The {best} of {within} candidates within the budget" if within > 1 else "The only candidate within the budget"
    if chosen is reference:
        return f"{lead}."
    change = 100 * (chosen.scores[monitor] - reference.scores[monitor])
    speed, size = reference.latency_ms.p50 / chosen.latency_ms.p50, reference.megabytes / chosen.megabytes
    sized = f"{size:.1f} times smaller" if size >= 1 else f"{1 / size:.1f} times larger"
    noise = f" (95 % of samples: {100 * chosen.gain.low:+.2f} to {100 * chosen.gain.high:+.2f})" if chosen.gain else ""
    return f"{lead}: {change:+.2f} points of {monitor}{noise}, {speed:.1f} times as fast and {sized} than {reference.label}."


def _why_not(candidate: Evaluation, chosen: Evaluation, budget: Budget) -> str:
    if budget.objective == "size":
        return f"within the budget, but {candidate.megabytes / chosen.megabytes:.1f} times larger: {candidate.megabytes:.2f} against {chosen.megabytes:.2f} MB"
    slower = candidate.latency_ms.p50 / chosen.latency_ms.p50
    figures = f"{candidate.latency_ms.p50:.3f} against {chosen.latency_ms.p50:.3f} ms"
    if slower < 1 + ALIKE:
        sizes = f"{candidate.megabytes:.2f} against {chosen.megabytes:.2f} MB"
        return f"within the budget and about as fast ({figures}), but not smaller: {sizes}"
    return f"within the budget, but {slower:.1f} times slower: {figures}"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
