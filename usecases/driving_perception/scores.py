"""The scores of all heads on a split, computed in one pass over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.statistics import Statistics
from tasks.contract.types import Predict, Split
from usecases.driving_perception.heads.head import Evaluator
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.scenes import StoredScenes, inputs_of, read_card

BATCH = 8
MEAN = "mean_of_heads"


@dataclass(frozen=True)
class Evaluators:
    """The evaluators of each head over its labelled frames: of the whole split, and of each scenario if there are several."""

    whole: dict[str, Evaluator]
    scenarios: dict[str, dict[str, Evaluator]]


def evaluate(predict: Predict, folder: Path, split: Split) -> Evaluators:
    """Evaluate a predictor on a split.

    Args:
        predict: the predictor.
        folder: of the prepared data set.
        split: to be evaluated.

    Returns:
        The evaluators, with all frames added.

    Raises:
        DataError: the split has no frames with labels for one of the heads.
    """
    scenes, card = StoredScenes(folder / split), read_card(folder / "assets")
    known = {head: set(scenes.rows_with(head).tolist()) for head in card["heads"]}
    for head, rows in known.items():
        if not rows:
            raise DataError(f"The {split} split has no frames with labels for the head {head}, so that it cannot be scored.")
    scenario, named = scenes.slices(), sorted(set(scenes.slices()))
    of_scenario = {name: set(np.flatnonzero(np.array(scenario) == name).tolist()) for name in named if name and len(named) > 1}
    found = Evaluators(
        {head: HEADS[head].evaluator(scenes, card) for head in known},
        {name: {head: HEADS[head].evaluator(scenes, card) for head in known if known[head] & rows} for name, rows in of_scenario.items()},
    )
    for start in range(0, len(scenes), BATCH):
        batch = scenes.batch(np.arange(start, min(start + BATCH, len(scenes))))
        outputs = predict(inputs_of(batch))
        for place, row in enumerate(range(start, min(start + BATCH, len(scenes)))):
            truth, answer = ({name: array[place] for name, array in arrays.items()} for arrays in (batch, outputs))
            for evaluators in (found.whole, found.scenarios.get(scenario[row], {})):
                for head, evaluator in evaluators.items():
                    if row in known[head]:
                        evaluator.add(row, truth, answer)
    return found


def scores(predict: Predict, folder: Path, split: Split) -> dict[str, float]:
    """The scores of every head, and of several heads `mean_of_heads`, the mean of their metrics.

    Args:
        predict: a predictor.
        folder: of the prepared data set.
        split: to be scored.

    Returns:
        Scores by name; those of a scenario are called `miou/night` and so on.
    """
    found = evaluate(predict, folder, split)
    measured = _of(found.whole, len(found.whole) > 1)
    for name, evaluators in found.scenarios.items():
        reported = {MEAN, *(score for head in evaluators for score in (HEADS[head].metric, *HEADS[head].scenario_metrics))}
        measured |= {f"{score}/{name}": value for score, value in _of(evaluators, len(found.whole) > 1).items() if score in reported}
    return measured


def statistics(predict: Predict, folder: Path, split: Split, scenario: str) -> Statistics | None:
    """Per-example statistics of the score that a network is selected by.

    Args:
        predict: a predictor.
        folder: of the prepared data set.
        split: to be scored.
        scenario: only its frames count; empty: all.

    Returns:
        The statistics; None if the metric of a head is no function of means over frames.
    """
    found = evaluate(predict, folder, split)
    counted = [(evaluator, evaluator.counts()) for evaluator in (found.scenarios[scenario] if scenario else found.whole).values()]
    known = [(evaluator, counts) for evaluator, counts in counted if counts is not None]
    if len(known) < len(found.whole):
        return None
    rows = sorted({row for evaluator, _ in known for row in evaluator.rows})
    parts = [np.zeros((len(rows), counts.shape[1])) for _, counts in known]
    for part, (evaluator, counts) in zip(parts, known, strict=True):
        part[np.searchsorted(rows, evaluator.rows)] = counts
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]

    def value(means: np.ndarray) -> np.ndarray:  # each metric is a quotient of sums, so that frames of other heads do not count
        return np.mean([evaluator.value(part) for (evaluator, _), part in zip(known, np.split(means, ends, axis=-1), strict=True)], axis=0)

    return Statistics(np.concatenate(parts, axis=1), value)


def _of(evaluators: dict[str, Evaluator], several: bool) -> dict[str, float]:
    measured = {name: value for evaluator in evaluators.values() for name, value in evaluator.scores().items()}
    mean = {MEAN: float(np.mean([measured[HEADS[head].metric] for head in evaluators]))} if several and evaluators else {}
    return mean | measured


def monitor_of(heads: Sequence[str]) -> str:
    """The score that a network with these heads is selected by."""
    return HEADS[heads[0]].metric if len(heads) == 1 else MEAN
