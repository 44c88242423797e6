"""Which candidate is released, and why each other one is not. The validation split decides; no choice looks at the test split.

Where the examples of the validation split are too few to tell candidates apart, the rule that chooses is cross-validated (Arlot and Celisse
2010, "A survey of cross-validation procedures for model selection"): each of K parts is held out in turn, the rule chooses on the rest, and
the choice is scored on the part that it did not see. Nothing is trained again, since the per-example statistics of all candidates are known.
Two things come of it: how often each candidate is chosen, by which the choice among those within the budget is settled; and what the
chosen ones reach on examples that did not choose them, which unlike their score on the examples that did is not optimistic (nested
cross-validation: Varma and Simon 2006).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.contract.artifacts import Evaluation, Interval, Rejection
from tasks.evaluation.validation import is_within
from tasks.settings import Budget

ALIKE = 0.05  # latencies closer than this share are one: the machine is noisier


@dataclass(frozen=True)
class CrossValidation:
    """What the rule chooses when a part of the validation split is held out."""

    chosen: tuple[int, ...]
    """Places of the candidates that were chosen, one a fold."""
    gain: float
    """Mean over the folds of the chosen candidate's score minus that of the fold's reference, on the part that was held out."""

    def count(self, place: int) -> int:
        """The number of folds in which a candidate was chosen."""
        return self.chosen.count(place)


def choose(evaluations: Sequence[Evaluation], monitor: str, budget: Budget) -> tuple[Evaluation, str, list[Rejection]]:
    """The fastest, or smallest, candidate whose quality on validation is within the budget of the best that was not compressed.

    That is the full-precision graph, or a baseline where one is better than what was trained. Where the paired interval of a finalist is
    wider than the loss that is allowed, the finalist within the budget that is chosen in most folds of the cross-validation is taken, and
    the reason reports that the data cannot tell. Where none is within the budget, the best in quality is chosen and the reason reports
    that the budget was missed.

    Args:
        evaluations: of all candidates.
        monitor: name of the score that decides.
        budget: of quality, latency and size.

    Returns:
        The chosen one, the reason, and the others, each with its reason.
    """
    reference = reference_of(evaluations, monitor)
    misses = [over_budget(e, reference, monitor, budget) for e in evaluations]
    picked, folds = pick(evaluations, monitor, budget), cross_validate(evaluations, monitor, budget)
    place = _most_often(evaluations, picked, folds, misses, budget.allowed(reference.validation[monitor]))
    chosen, voted = evaluations[place], place != picked
    if misses[place]:
        reason = f"No candidate is within the budget; this one has the best {monitor} on validation, but {misses[place]}."
    else:
        reason = _why(chosen, reference, monitor, budget, misses.count(""), voted)
    rejected = [
        Rejection(evaluation=e, reason=_sentence(missed or _why_not(e, chosen, budget, voted)))
        for e, missed in zip(evaluations, misses, strict=True)
        if e is not chosen
    ]
    return chosen, " ".join(filter(None, (reason, doubt(evaluations, place, monitor, budget, folds)))), rejected


def pick(evaluations: Sequence[Evaluation], monitor: str, budget: Budget) -> int:
    """The place of the candidate that the rule chooses, without cross-validation."""
    reference = reference_of(evaluations, monitor)
    within = [e for e in evaluations if not over_budget(e, reference, monitor, budget)]
    return _place(_cheapest(within, budget) if within else max(evaluations, key=lambda e: e.validation[monitor]), evaluations)


def cross_validate(evaluations: Sequence[Evaluation], monitor: str, budget: Budget) -> CrossValidation | None:
    """The rule's choice in every fold; None where the candidates have no folds."""
    count = min((len(e.folds) for e in evaluations), default=0)
    if not count:
        return None
    chosen, gains = [], []
    for fold in range(count):
        on_rest = [e.model_copy(update={"validation": {monitor: e.folds[fold].score}, "gain": e.folds[fold].gain}) for e in evaluations]
        place = pick(on_rest, monitor, budget)
        best = _place(reference_of(on_rest, monitor), on_rest)
        chosen.append(place)
        gains.append(evaluations[place].folds[fold].held_out - evaluations[best].folds[fold].held_out)
    return CrossValidation(tuple(chosen), sum(gains) / count)


def reference_of(evaluations: Sequence[Evaluation], monitor: str) -> Evaluation:
    """What quality is held against: on validation the best candidate that was not compressed."""
    return max((e for e in evaluations if e.model.role != "compressed"), key=lambda e: e.validation[monitor], default=evaluations[0])


def over_budget(candidate: Evaluation, reference: Evaluation, monitor: str, budget: Budget) -> str:
    """What of the budget a candidate misses; empty: nothing."""
    have, want = candidate.validation[monitor], reference.validation[monitor]
    allowed = budget.allowed(want)
    if not is_within(want - have, candidate.gain, allowed):
        return (
            f"its {monitor} of {have:.4f} on validation is {want - have:.4f} below {reference.label}'s {want:.4f}; {allowed:.4f} is allowed"
        )
    if budget.max_latency_ms and candidate.latency_ms.p95 > budget.max_latency_ms:
        return f"its p95 of {candidate.latency_ms.p95:.2f} ms is over the {budget.max_latency_ms:g} ms allowed"
    if budget.max_megabytes and candidate.megabytes > budget.max_megabytes:
        return f"its {candidate.megabytes:.2f} MB are over the {budget.max_megabytes:g} MB allowed"
    return ""


def doubt(evaluations: Sequence[Evaluation], place: int, monitor: str, budget: Budget, folds: CrossValidation | None) -> str:
    """That the validation split cannot tell the chosen candidate from the reference, or the reference from its rival; empty where it can.

    Args:
        evaluations: of all candidates.
        place: of the one that is released.
        monitor: name of the score that decides.
        budget: whose allowed loss the interval is compared with.
        folds: None where there are none.
    """
    reference = reference_of(evaluations, monitor)
    allowed, chosen = budget.allowed(reference.validation[monitor]), evaluations[place]
    rivals = [one for one, _ in Counter(folds.chosen).most_common() if one != place] if folds else []
    compared = chosen if chosen is not reference else next((evaluations[one] for one in rivals if evaluations[one] is not reference), None)
    if compared is None or compared.gain is None or not _is_wide(compared.gain, allowed):
        return ""
    other = reference if compared is chosen else compared
    apart = compared.gain.low <= 0 <= compared.gain.high
    told = (
        f"cannot tell {chosen.label} and {other.label} apart"
        if apart
        else f"leaves open how far apart {chosen.label} and {other.label} are"
    )
    reported = f"The validation split {told} ({interval(compared.gain)}, {allowed:.4f} allowed)."
    if folds is None:
        return reported
    votes = "".join(f", {evaluations[one].label} in {folds.count(one)}" for one in rivals)
    return (
        f"{reported} Cross-validation chooses {chosen.label} in {folds.count(place)} of {len(folds.chosen)} folds{votes}; "
        f"on the parts held out the choices differ from the reference by {folds.gain:+.4f}."
    )


def interval(gain: Interval) -> str:
    """`95 % interval -0.0080 to +0.0060`."""
    return f"95 % interval {gain.low:+.4f} to {gain.high:+.4f}"


def _most_often(
    evaluations: Sequence[Evaluation], picked: int, folds: CrossValidation | None, misses: Sequence[str], allowed: float
) -> int:
    """The finalist within the budget that most folds choose, where the interval of one is wider than what is allowed; else the one picked."""
    if folds is None or not any(_is_wide(evaluations[place].gain, allowed) for place in (picked, *folds.chosen)):
        return picked
    eligible = [place for place, missed in enumerate(misses) if not missed] or [picked]
    return max(eligible, key=lambda place: (folds.count(place), place == picked))


def _place(evaluation: Evaluation, among: Sequence[Evaluation]) -> int:
    return next(place for place, one in enumerate(among) if one is evaluation)


def _is_wide(gain: Interval | None, allowed: float) -> bool:
    """Whether the examples leave more open than the budget allows to be lost."""
    return gain is not None and gain.high - gain.low > allowed


def _cheapest(candidates: Sequence[Evaluation], budget: Budget) -> Evaluation:
    """The smallest; or the fastest, and of those that the clock cannot tell apart the smallest."""
    if budget.objective == "size":
        return min(candidates, key=lambda e: (e.megabytes, e.latency_ms.p50))
    fastest = min(e.latency_ms.p50 for e in candidates)
    alike = [e for e in candidates if e.latency_ms.p50 < fastest * (1 + ALIKE)]
    return min(alike, key=lambda e: e.megabytes)


def _why(chosen: Evaluation, reference: Evaluation, monitor: str, budget: Budget, within: int, voted: bool) -> str:
    best = "smallest" if budget.objective == "size" else "fastest"
    best = "one that most folds of the validation split choose" if voted else best
    lead = f"The {best} of {within} candidates within the budget" if within > 1 else "The only candidate within the budget"
    if chosen is reference:
        return f"{lead}."
    change = chosen.validation[monitor] - reference.validation[monitor]
    speed, size = reference.latency_ms.p50 / chosen.latency_ms.p50, reference.megabytes / chosen.megabytes
    sized = f"{size:.1f} times smaller" if size >= 1 else f"{1 / size:.1f} times larger"
    noise = f" ({interval(chosen.gain)})" if chosen.gain else ""
    return f"{lead}: {monitor} {change:+.4f} on validation{noise}, {speed:.1f} times as fast and {sized} than {reference.label}."


def _why_not(candidate: Evaluation, chosen: Evaluation, budget: Budget, voted: bool) -> str:
    slower = candidate.latency_ms.p50 / chosen.latency_ms.p50
    figures = f"{candidate.latency_ms.p50:.3f} against {chosen.latency_ms.p50:.3f} ms"
    sizes = f"{candidate.megabytes:.2f} against {chosen.megabytes:.2f} MB"
    smaller = candidate.megabytes < chosen.megabytes
    if voted and (smaller if budget.objective == "size" else slower < 1 - ALIKE or (slower < 1 + ALIKE and smaller)):
        return f"within the budget and cheaper ({sizes if budget.objective == 'size' else figures}), but chosen in fewer folds"
    if budget.objective == "size":
        return f"within the budget, but {candidate.megabytes / chosen.megabytes:.1f} times larger: {sizes}"
    if slower < 1 + ALIKE:
        return f"within the budget and about as fast ({figures}), but not smaller: {sizes}"
    return f"within the budget, but {slower:.1f} times slower: {figures}"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
