"""The choice and its reasons, case by case: validation decides, and an uncertain choice is cross-validated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.contract.artifacts import Dataset, Evaluation, Latency, OnnxModel
from tasks.contract.errors import TrainingError
from tasks.contract.statistics import Statistics, mean_of
from tasks.evaluation.choose import choose, cross_validate, pick, reference_of
from tasks.evaluation.folds import FOLDS, best, folds, gains_over
from tasks.evaluation.measure import evaluate
from tasks.evaluation.validation import Scored
from tasks.exporting.bundle import write_bundle
from tasks.exporting.export import write_graph
from tasks.settings import Budget
from tests.toy import CountedToy, ToyUseCase


def candidate(label: str, accuracy: float, p50: float, megabytes: float, test: float | None = None) -> Evaluation:
    role = {"fp32": "full", "table": "baseline"}.get(label, "compressed")
    fields = {"digest": label, "usecase": ToyUseCase(), "label": label, "megabytes": megabytes, "role": role}
    model = OnnxModel.model_validate(fields)
    latency = Latency(p50=p50, p95=2 * p50)
    return Evaluation(
        model=model,
        validation={"accuracy": accuracy},
        scores={"accuracy": accuracy if test is None else test},
        latency_ms=latency,
        throughput=1,
        megabytes=megabytes,
        memory_megabytes=1,
        load_seconds=0,
        cpu="",
        threads=1,
    )


FULL, FAST, SMALL, POOR = (
    candidate("fp32", 0.925, 0.40, 4.0),
    candidate("fast", 0.924, 0.20, 1.5),
    candidate("small", 0.923, 0.30, 1.0),
    candidate("poor", 0.912, 0.10, 0.9),
)
EVERY = [FULL, FAST, SMALL, POOR]


@pytest.mark.parametrize(
    ("budget", "chosen", "loser", "words"),
    [
        (Budget(), "fast", "poor", "Its accuracy of 0.9120 on validation is 0.0130 below fp32's 0.9250; 0.0050 is allowed."),
        (Budget(), "fast", "fp32", "Within the budget, but 2.0 times slower: 0.400 against 0.200 ms."),
        (Budget(objective="size"), "small", "fast", "Within the budget, but 1.5 times larger: 1.50 against 1.00 MB."),
        (Budget(max_loss=0.02), "poor", "fast", "Within the budget, but 2.0 times slower"),
        (Budget(max_loss=0), "fp32", "fast", "Its accuracy of 0.9240 on validation is 0.0010 below fp32's 0.9250; 0.0000 is allowed."),
        (Budget(max_megabytes=1.2), "small", "fp32", "Its 4.00 MB are over the 1.2 MB allowed."),
        (Budget(max_latency_ms=0.5), "fast", "fp32", "Its p95 of 0.80 ms is over the 0.5 ms allowed."),
    ],
)
def test_the_best_within_the_budget_is_chosen_and_each_rejection_has_a_reason(budget: Budget, chosen: str, loser: str, words: str) -> None:
    winner, reason, rejected = choose(EVERY, "accuracy", budget)
    assert winner.label == chosen
    assert reason
    reasons = {rejection.evaluation.label: rejection.reason for rejection in rejected}
    assert set(reasons) == {e.label for e in EVERY} - {chosen}
    assert words in reasons[loser]


def test_the_test_split_decides_nothing() -> None:
    """Not the reference, not which candidates are within the budget, and not the choice if none is."""
    table = candidate("table", 0.924, 0.5, 9.0, test=0.99)  # by the test split it would be the reference, and nothing else within
    lucky = candidate("lucky", 0.912, 0.1, 0.9, test=0.95)
    chosen, reason, rejected = choose([FULL, FAST, table, lucky], "accuracy", Budget())
    assert chosen.label == "fast" and reason.endswith("than fp32.")
    assert {r.evaluation.label: r.reason for r in rejected}["lucky"].startswith(
        "Its accuracy of 0.9120 on validation is 0.0130 below fp32's"
    )
    assert choose([FULL, FAST, table, lucky], "accuracy", Budget(max_latency_ms=0.01))[0].label == "fp32"
    assert reference_of([FULL, table], "accuracy").label == "fp32"


def test_a_budget_that_no_candidate_meets_is_reported() -> None:
    winner, reason, rejected = choose(EVERY, "accuracy", Budget(max_latency_ms=0.01))
    assert winner.label == "fp32"
    assert reason.startswith(
        "No candidate is within the budget; this one has the best accuracy on validation, but its p95 of 0.80 ms is over"
    )
    assert len(rejected) == 3


def test_a_score_that_is_not_a_number_is_the_worst_everywhere() -> None:
    nan = float("nan")
    full, small, simple = candidate("fp32", nan, 2, 4), candidate("int8", 0.8, 1, 1), candidate("markov", 0.9, 0.5, 0.1)
    simple = simple.model_copy(update={"model": simple.model.model_copy(update={"role": "baseline"})})
    for candidates in ([full, small, simple], [simple, small, full], [small, full, simple]):
        chosen, _, rejected = choose(candidates, "accuracy", Budget())
        assert chosen.label == "markov"
        assert "is not a number" in next(r.reason for r in rejected if r.evaluation.label == "fp32")
    assert choose([full, small], "accuracy", Budget())[0].label == "int8"
    with pytest.raises(TrainingError, match=r"not a number.*--fit\.learning_rate"):
        choose([full], "accuracy", Budget())
    scored = [Scored("accuracy", {"accuracy": value}) for value in (nan, 0.1, nan)]
    assert best(scored, [True, True, True]) == 1


def test_noise_is_not_taken_for_speed() -> None:
    twin = candidate("twin", 0.924, 0.204, 1.5)
    _, _, rejected = choose([FULL, FAST, twin], "accuracy", Budget())
    reasons = {rejection.evaluation.label: rejection.reason for rejection in rejected}
    assert "about as fast (0.204 against 0.200 ms), but not smaller" in reasons["twin"]


def test_a_baseline_that_is_better_is_released() -> None:
    chosen, _, rejected = choose([*EVERY, candidate("table", 0.95, 0.5, 9.0)], "accuracy", Budget())
    assert chosen.label == "table"
    assert all("below table's 0.9500" in rejection.reason for rejection in rejected)


# -- cross-validation of the choice -------------------------------------------------------------------------------------
def with_examples(each: dict[str, np.ndarray], p50: dict[str, float]) -> list[Evaluation]:
    """Candidates from the examples that each has right, bool [N]; the first is in full precision."""
    scored = [
        Scored("accuracy", {"accuracy": float(right.mean())}, Statistics(right[:, None].astype(float), mean_of)) for right in each.values()
    ]
    plain = [place == 0 for place in range(len(scored))]
    made = [candidate(label, one.value, p50[label], 1.0) for label, one in zip(each, scored, strict=True)]
    found = zip(made, gains_over(0, scored), folds(scored, plain), strict=True)
    return [e.model_copy(update={"gain": gain, "folds": parts}) for e, gain, parts in found]


def test_cross_validation_chooses_on_the_other_parts_and_scores_on_the_held_out_part() -> None:
    random, budget, speed = np.random.default_rng(3), Budget(max_loss=0.01), {"fp32": 0.4, "near": 0.2, "far": 0.1}
    right = {label: random.random(400) < share for label, share in (("fp32", 0.9), ("near", 0.89), ("far", 0.87))}
    found = cross_validate(with_examples(right, speed), "accuracy", budget)
    chosen, gains = [], []
    for part in np.array_split(np.random.default_rng(0).permutation(400), FOLDS):  # the same in a few lines, without luck
        rest = np.setdiff1d(np.arange(400), part)
        within = [label for label in right if right["fp32"][rest].mean() - right[label][rest].mean() <= budget.max_loss]
        chosen.append(list(right).index(min(within, key=speed.__getitem__)))
        gains.append(right[list(right)[chosen[-1]]][part].mean() - right["fp32"][part].mean())
    certain = [
        e.model_copy(update={"folds": tuple(f.model_copy(update={"gain": None}) for f in e.folds)}) for e in with_examples(right, speed)
    ]
    strict = cross_validate(certain, "accuracy", budget)
    assert strict is not None and found is not None
    assert strict.chosen == tuple(chosen) and len(set(chosen)) > 1, "the folds do not agree"
    assert strict.gain == pytest.approx(np.mean(gains))
    assert all(fast >= slow for fast, slow in zip(found.chosen, chosen, strict=True)), (
        "with intervals, more candidates are within the budget"
    )


def test_among_close_candidates_the_one_that_most_folds_choose_is_released() -> None:
    """The fastest is only just within the budget: in most folds it is not."""
    count = 1000
    right = {"fp32": np.ones(count, bool), "safe": np.ones(count, bool), "hair": np.ones(count, bool)}
    right["safe"][:2] = False
    right["hair"][np.random.default_rng(0).permutation(count)[:10]] = False  # all in one part; of the rest of the others 1.11 points
    every, budget = with_examples(right, {"fp32": 0.4, "safe": 0.2, "hair": 0.1}), Budget(max_loss=0.0101)
    chosen, reason, rejected = choose(every, "accuracy", budget)
    votes = cross_validate(every, "accuracy", budget)
    assert pick(every, "accuracy", budget) == 2
    assert votes is not None and (votes.count(1), votes.count(2)) == (9, 1)
    assert chosen.label == "safe" and "cannot tell" not in reason, "its own interval is narrow"
    assert reason.startswith("The one that most folds of the validation split choose of 3 candidates within the budget")
    assert {r.evaluation.label: r.reason for r in rejected}["hair"].startswith("Within the budget and cheaper (0.100 against 0.200 ms)")


def test_an_uncertain_choice_is_reported() -> None:
    base = np.arange(200) < 180
    int8 = base ^ np.isin(np.arange(200), (0, 50, 100, 185, 195))  # three more are wrong, two more are right
    right = {"fp32": base, "int8": int8}
    every = with_examples(right, {"fp32": 0.4, "int8": 0.2})
    gain, votes = every[1].gain, cross_validate(every, "accuracy", Budget(max_loss=0.02))
    assert gain is not None and votes is not None and gain.high - gain.low > 0.02
    chosen, reason, _ = choose(every, "accuracy", Budget(max_loss=0.02))
    assert f"{votes.count(every.index(chosen))} of 10 folds" in reason
    assert "The validation split cannot tell int8 and fp32 apart" in reason
    assert f"(95 % interval {gain.low:+.4f} to {gain.high:+.4f}, 0.0200 allowed)" in reason
    assert "cannot tell" not in choose(every, "accuracy", Budget(max_loss=0.2))[1], (
        "an accepted loss of 20 points is wider than the interval"
    )
    certain = [e.model_copy(update={"gain": None, "folds": ()}) for e in every]
    assert "cannot tell" not in choose(certain, "accuracy", Budget(max_loss=0.02))[1], "it has no interval"


def test_too_few_examples_have_no_folds() -> None:
    few = np.ones(FOLDS * 5 - 1, bool)
    assert with_examples({"fp32": few, "int8": few}, {"fp32": 0.4, "int8": 0.2})[0].folds == ()


# -- from bundles ---------------------------------------------------------------------------------------------------------
class Circle(torch.nn.Module):
    """Predicts the second class outside of a circle; the true circle of the toy has the squared radius 1.4."""

    def __init__(self, squared_radius: float) -> None:
        super().__init__()
        self.squared_radius = squared_radius

    def forward(self, point: torch.Tensor) -> torch.Tensor:
        beyond = point.square().sum(1) - self.squared_radius
        return torch.stack([-beyond, beyond], dim=1)


def test_bundles_are_chosen_by_validation_where_the_test_split_would_choose_another(tmp_path: Path) -> None:
    usecase, data = CountedToy(), tmp_path / "data"
    data.mkdir()
    (data / "card.json").write_text(json.dumps(usecase.prepare(data)))
    dataset = Dataset(digest="0" * 64, usecase=usecase, sizes={}).at(data)
    models = []
    for label, radius, megabytes in (("fp32", 1.4, 3.0), ("small", 1.1, 2.0), ("tiny", 1.6, 1.0)):
        folder = tmp_path / label
        folder.mkdir()
        write_graph(usecase, Circle(radius), {"point": np.zeros((2, 2), np.float32)}, folder / "model.onnx")
        write_bundle(folder, label, usecase, data / "assets", dataset)
        role = "full" if label == "fp32" else "compressed"
        models.append(OnnxModel(digest=label, usecase=usecase, label=label, megabytes=megabytes, role=role).at(folder))
    found, budget = evaluate(models, dataset), Budget(max_loss=0.04, objective="size")
    right = {e.label: (round(64 * e.validation["accuracy"]), round(64 * e.scores["accuracy"])) for e in found}
    assert right == {"fp32": (64, 64), "small": (63, 60), "tiny": (60, 62)}, "of 64 each, on validation and test"
    chosen, reason, rejected = choose(found, "accuracy", budget)
    assert chosen.label == "small" and chosen.test_gain is not None and chosen.test_gain.measured == pytest.approx(-4 / 64)
    assert "The validation split cannot tell small and fp32 apart" in reason
    assert rejected[1].reason == "Its accuracy of 0.9375 on validation is 0.0625 below fp32's 1.0000; 0.0400 is allowed."
    swapped = [e.model_copy(update={"validation": e.scores, "gain": e.test_gain, "folds": ()}) for e in found]
    assert choose(swapped, "accuracy", budget)[0].label == "tiny", "what the test split would choose"
    again = Evaluation.model_validate_json(found[1].model_dump_json())
    assert again.folds == found[1].folds and len(again.folds) == FOLDS
