"""Choice of the candidate to release, with a reason for it and for each rejection. The validation split decides, never the test split.

If the validation split is too small to distinguish the candidates, the rule of choice is cross-validated (Arlot and Celisse 2010, "A survey
of cross-validation procedures for model selection"): each of K parts is held out in turn, the rule chooses on the other parts, and its choice
is scored on the held-out part. Nothing is trained again, since all candidates have per-example statistics. Cross-validation gives two
results: how often each candidate is chosen, which decides among those within the budget; and the score of the choices on examples that did
not take part in the choice, which therefore is not optimistic (nested cross-validation: Varma and Simon 2006).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.contract.artifacts import Evaluation, Interval, Rejection
from tasks.contract.errors import TrainingError
from tasks.evaluation.validation import is_within, or_worst
from tasks.settings import Budget

SAME_LATENCY = 0.05  # relative difference below which latencies count as equal, since measurements are noisier


@dataclass(frozen=True)
class CrossValidation:
    """The choices of the rule in each fold."""

    chosen: tuple[int, ...]
    """Index of the chosen candidate in each fold."""
    gain: float
    """Score of the chosen candidate minus that of the fold's reference on the held-out part, averaged over the folds."""

    def count(self, place: int) -> int:
        """The number of folds in which a candidate was chosen."""
        return self.chosen.count(place)


def choose(evaluations: Sequence[Evaluation], monitor: str, budget: Budget) -> tuple[Evaluation, str, list[Rejection]]:
    """Choose the fastest, or smallest, candidate within the budget.

    The loss of quality on validation is measured from the reference: the best candidate that was not compressed, which is the full-precision
    graph or a better baseline. If the paired interval of a candidate that the rule chooses is wider than the accepted loss, the candidate
    within the budget that most folds of the cross-validation choose is released, and the reason says how uncertain the choice is. If no
    candidate is within the budget, the one with the best quality is released, and the reason says so.

    Args:
        evaluations: evaluations of all candidates.
        monitor: name of the score that decides.
        budget: limits of quality, latency and size, and the objective.

    Returns:
        The chosen evaluation, the reason, and the rejections with their reasons.
    """
    reference = reference_of(evaluations, monitor)
    misses = [over_budget(e, reference, monitor, budget) for e in evaluations]
    picked, folds = pick(evaluations, monitor, budget), cross_validate(evaluations, monitor, budget)
    place = _most_often(evaluations, picked, folds, misses, budget.allowed(reference.validation[monitor]))
    chosen, voted = evaluations[place], place != picked
    if math.isnan(chosen.validation[monitor]):
        raise TrainingError(
            f"The {monitor} of all {len(evaluations)} candidates on validation is not a number, so that none can be released. "
            "The usual cause is a learning rate that is too high: try a smaller --fit.learning_rate."
        )
    if misses[place]:
        reason = f"No candidate is within the budget; this one has the best {monitor} on validation, but {misses[place]}."
    else:
        reason = _why(chosen, reference, monitor, budget, misses.count(""), voted)
    rejected = [
        Rejection(evaluation=e, reason=_sentence(missed or _why_not(e, chosen, budget, voted)))
        for e, missed in zip(evaluations, misses, strict=True)
        if e is not chosen
    ]
    return chosen, " ".join(filter(None, (reason, uncertainty(evaluations, place, monitor, budget, folds)))), rejected


def pick(evaluations: Sequence[Evaluation], monitor: str, budget: Budget) -> int:
    """Apply the rule of choice once, without cross-validation.

    Args:
        evaluations: evaluations of all candidates.
        monitor: name of the score that decides.
        budget: limits of quality, latency and size, and the objective.

    Returns:
        Index of the chosen candidate.
    """
    reference = reference_of(evaluations, monitor)
    within = [e for e in evaluations if not over_budget(e, reference, monitor, budget)]
    return _place(_cheapest(within, budget) if within else max(evaluations, key=lambda e: or_worst(e.validation[monitor])), evaluations)


def cross_validate(evaluations: Sequence[Evaluation], monitor: str, budget: Budget) -> CrossValidation | None:
    """Apply the rule of choice in every fold.

    Args:
        evaluations: evaluations of all candidates.
        monitor: name of the score that decides.
        budget: limits of quality, latency and size, and the objective.

    Returns:
        The choices and their gain; None if a candidate has no folds.
    """
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
    """The reference for losses of quality: the candidate with the best validation score of those that were not compressed."""
    plain = (e for e in evaluations if e.model.role != "compressed")
    return max(plain, key=lambda e: or_worst(e.validation[monitor]), default=evaluations[0])


def over_budget(candidate: Evaluation, reference: Evaluation, monitor: str, budget: Budget) -> str:
    """Which limit of the budget a candidate misses.

    Args:
        candidate: its evaluation.
        reference: the best candidate that was not compressed.
        monitor: name of the score that decides.
        budget: limits of quality, latency and size.

    Returns:
        A clause with the figures; empty if the candidate is within the budget.
    """
    have, want = candidate.validation[monitor], reference.validation[monitor]
    allowed = budget.allowed(want)
    if math.isnan(have) or math.isnan(want):
        return f"{f'its {monitor}' if math.isnan(have) else f'the {monitor} of {reference.label}'} on validation is not a number"
    if not is_within(want - have, candidate.gain, allowed):
        return (
            f"its {monitor} of {have:.4f} on validation is {want - have:.4f} below {reference.label}'s {want:.4f}; {allowed:.4f} is allowed"
        )
    if budget.max_latency_ms and candidate.latency_ms.p95 > budget.max_latency_ms:
        return f"its p95 of {candidate.latency_ms.p95:.2f} ms is over the {budget.max_latency_ms:g} ms allowed"
    if budget.max_megabytes and candidate.megabytes > budget.max_megabytes:
        return f"its {candidate.megabytes:.2f} MB are over the {budget.max_megabytes:g} MB allowed"
    return ""


def uncertainty(evaluations: Sequence[Evaluation], place: int, monitor: str, budget: Budget, folds: CrossValidation | None) -> str:
    """Describe how uncertain the choice is, if the interval of the difference from the reference is wider than the accepted loss.

    If the reference itself is chosen, it is compared with the candidate that most folds choose besides it.

    Args:
        evaluations: evaluations of all candidates.
        place: index of the candidate that is released.
        monitor: name of the score that decides.
        budget: provides the accepted loss.
        folds: the cross-validation, if there is one.

    Returns:
        One or two sentences; empty if the choice is certain.
    """
    reference = reference_of(evaluations, monitor)
    allowed, chosen = budget.allowed(reference.validation[monitor]), evaluations[place]
    rivals = [one for one, _ in Counter(folds.chosen).most_common() if one != place] if folds else []
    compared = chosen if chosen is not reference else next((evaluations[one] for one in rivals if evaluations[one] is not reference), None)
    if compared is None or compared.gain is None or not _is_wide(compared.gain, allowed):
        return ""
    other = reference if compared is chosen else compared
    apart = compared.gain.low <= 0 <= compared.gain.high
    finding = (
        f"cannot tell {chosen.label} and {other.label} apart"
        if apart
        else f"leaves open how far apart {chosen.label} and {other.label} are"
    )
    reported = f"The validation split {finding} ({interval(compared.gain)}, {allowed:.4f} allowed)."
    if folds is None:
        return reported
    votes = "".join(f", {evaluations[one].label} in {folds.count(one)}" for one in rivals)
    return (
        f"{reported} Cross-validation chooses {chosen.label} in {folds.count(place)} of {len(folds.chosen)} folds{votes}; "
        f"on the held-out parts the choices differ from the reference by {folds.gain:+.4f}."
    )


def interval(gain: Interval) -> str:
    """An interval for a sentence, such as `95 % interval -0.0080 to +0.0060`."""
    return f"95 % interval {gain.low:+.4f} to {gain.high:+.4f}"


def _most_often(
    evaluations: Sequence[Evaluation], picked: int, folds: CrossValidation | None, misses: Sequence[str], allowed: float
) -> int:
    """Index of the candidate within the budget that most folds choose, if an interval is wider than the accepted loss; otherwise `picked`."""
    if folds is None or not any(_is_wide(evaluations[place].gain, allowed) for place in (picked, *folds.chosen)):
        return picked
    eligible = [place for place, missed in enumerate(misses) if not missed] or [picked]
    return max(eligible, key=lambda place: (folds.count(place), place == picked))


def _place(evaluation: Evaluation, among: Sequence[Evaluation]) -> int:
    return next(place for place, one in enumerate(among) if one is evaluation)


def _is_wide(gain: Interval | None, allowed: float) -> bool:
    """Whether an interval is wider than the accepted loss."""
    return gain is not None and gain.high - gain.low > allowed


def _cheapest(candidates: Sequence[Evaluation], budget: Budget) -> Evaluation:
    """The smallest candidate; or the fastest, and among equal latencies the smallest."""
    if budget.objective == "size":
        return min(candidates, key=lambda e: (e.megabytes, e.latency_ms.p50))
    fastest = min(e.latency_ms.p50 for e in candidates)
    alike = [e for e in candidates if e.latency_ms.p50 < fastest * (1 + SAME_LATENCY)]
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
    if voted and (smaller if budget.objective == "size" else slower < 1 - SAME_LATENCY or (slower < 1 + SAME_LATENCY and smaller)):
        return f"within the budget and cheaper ({sizes if budget.objective == 'size' else figures}), but chosen in fewer folds"
    if budget.objective == "size":
        return f"within the budget, but {candidate.megabytes / chosen.megabytes:.1f} times larger: {sizes}"
    if slower < 1 + SAME_LATENCY:
        return f"within the budget and about as fast ({figures}), but not smaller: {sizes}"
    return f"within the budget, but {slower:.1f} times slower: {figures}"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
