"""The scores of every head on a split, judged in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.statistics import Statistics
from tasks.contract.types import Predict, Split
from usecases.driving_perception.heads.head import Judge
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.scenes import StoredScenes, inputs_of, read_card

BATCH = 8
MEAN = "mean_of_heads"


@dataclass(frozen=True)
class Judged:
    """A judge for each head, of the frames of which is known what it is to say; and the same of each scenario, where there are several."""

    whole: dict[str, Judge]
    scenarios: dict[str, dict[str, Judge]]


def judged(predict: Predict, folder: Path, split: Split) -> Judged:
    """Raises `DataError`: there are no frames for one of the heads."""
    scenes, card = StoredScenes(folder / split), read_card(folder / "assets")
    known = {head: set(scenes.rows_with(head).tolist()) for head in card["heads"]}
    for head, rows in known.items():
        if not rows:
            raise DataError(f"There are no frames with {head} in the {split} split that is to be scored.")
    scenario, named = scenes.slices(), sorted(set(scenes.slices()))
    of_scenario = {name: set(np.flatnonzero(np.array(scenario) == name).tolist()) for name in named if name and len(named) > 1}
    found = Judged(
        {head: HEADS[head].judge(scenes, card) for head in known},
        {name: {head: HEADS[head].judge(scenes, card) for head in known if known[head] & rows} for name, rows in of_scenario.items()},
    )
    for start in range(0, len(scenes), BATCH):
        batch = scenes.batch(np.arange(start, min(start + BATCH, len(scenes))))
        said = predict(inputs_of(batch))
        for place, row in enumerate(range(start, min(start + BATCH, len(scenes)))):
            truth, answer = ({name: array[place] for name, array in arrays.items()} for arrays in (batch, said))
            for judges in (found.whole, found.scenarios.get(scenario[row], {})):
                for head, judge in judges.items():
                    if row in known[head]:
                        judge.add(row, truth, answer)
    return found


def scores(predict: Predict, folder: Path, split: Split) -> dict[str, float]:
    """The scores of every head; of several, `mean_of_heads` is the mean of their metrics.

    The most important ones of each scenario are called `miou/night` and so on.
    """
    found = judged(predict, folder, split)
    measured = _of(found.whole, len(found.whole) > 1)
    for name, judges in found.scenarios.items():
        reported = {MEAN, *(score for head in judges for score in (HEADS[head].metric, *HEADS[head].scenario_metrics))}
        measured |= {f"{score}/{name}": value for score, value in _of(judges, len(found.whole) > 1).items() if score in reported}
    return measured


def statistics(predict: Predict, folder: Path, split: Split, scenario: str) -> Statistics | None:
    """Of the score that a network is chosen by; None where the metric of a head is no function of means over frames."""
    found = judged(predict, folder, split)
    counted = [(judge, judge.counts()) for judge in (found.scenarios[scenario] if scenario else found.whole).values()]
    known = [(judge, counts) for judge, counts in counted if counts is not None]
    if len(known) < len(found.whole):
        return None
    rows = sorted({row for judge, _ in known for row in judge.rows})
    parts = [np.zeros((len(rows), counts.shape[1])) for _, counts in known]
    for part, (judge, counts) in zip(parts, known, strict=True):
        part[np.searchsorted(rows, judge.rows)] = counts
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]

    def value(means: np.ndarray) -> np.ndarray:  # each is a quotient of sums, so that frames of other heads do not count
        return np.mean([judge.value(part) for (judge, _), part in zip(known, np.split(means, ends, axis=-1), strict=True)], axis=0)

    return Statistics(np.concatenate(parts, axis=1), value)


def _of(judges: dict[str, Judge], several: bool) -> dict[str, float]:
    measured = {name: value for judge in judges.values() for name, value in judge.scores().items()}
    mean = {MEAN: float(np.mean([measured[HEADS[head].metric] for head in judges]))} if several and judges else {}
    return mean | measured


def monitor_of(heads: Sequence[str]) -> str:
    """The score that a network with these heads is chosen by."""
    return HEADS[heads[0]].metric if len(heads) == 1 else MEAN
