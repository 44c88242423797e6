"""What each head says of a split beside what is known, judged in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.statistics import Statistics
from tasks.contract.types import Arrays, Predict, Split
from usecases.driving_perception.heads.boxes.scores import BoxJudge
from usecases.driving_perception.heads.mask.scores import MaskJudge
from usecases.driving_perception.heads.signal import SignalJudge
from usecases.driving_perception.heads.steering.scores import SteeringJudge
from usecases.driving_perception.scenes import StoredScenes, inputs_of, read_card

BATCH = 8
MEAN = "mean_of_heads"


class Judge(Protocol):
    main: str
    of_scenarios: tuple[str, ...]
    """Scores that are told scenario by scenario, too, `main` among them."""

    def __init__(self, scenes: StoredScenes, card: dict[str, Any]) -> None: ...

    def add(self, row: int, truth: Arrays, said: Arrays) -> None:
        """One frame: what is known of it and what was answered, without a batch axis."""
        ...

    def scores(self) -> dict[str, float]: ...


AnyJudge = MaskJudge | BoxJudge | SteeringJudge | SignalJudge
JUDGES: dict[str, type[MaskJudge] | type[BoxJudge] | type[SteeringJudge] | type[SignalJudge]] = {
    "mask": MaskJudge,
    "boxes": BoxJudge,
    "steering": SteeringJudge,
    "signal": SignalJudge,
}


@dataclass(frozen=True)
class Judged:
    """A judge for each head, of the frames of which is known what it is to say; and the same of each scenario, where there are several."""

    whole: dict[str, AnyJudge]
    scenarios: dict[str, dict[str, AnyJudge]]


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
        {head: JUDGES[head](scenes, card) for head in known},
        {name: {head: JUDGES[head](scenes, card) for head in known if known[head] & rows} for name, rows in of_scenario.items()},
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
    """The scores of every head; of several, `mean_of_heads` is the mean of miou, map, steering_r2 and macro_recall.

    The most important ones of each scenario are called `miou/night` and so on.
    """
    found = judged(predict, folder, split)
    measured = _of(found.whole, len(found.whole) > 1)
    for name, judges in found.scenarios.items():
        told = {MEAN, *(score for judge in judges.values() for score in judge.of_scenarios)}
        measured |= {f"{score}/{name}": value for score, value in _of(judges, len(found.whole) > 1).items() if score in told}
    return measured


def tallies(predict: Predict, folder: Path, split: Split, scenario: str) -> Statistics | None:
    """Of the score that a network is chosen by; None where boxes are part of it: their precision is no sum over frames."""
    found = judged(predict, folder, split)
    judges = [judge for judge in (found.scenarios[scenario] if scenario else found.whole).values() if not isinstance(judge, BoxJudge)]
    if len(judges) < len(found.whole):
        return None
    rows = sorted({row for judge in judges for row in judge.rows})
    parts = [np.zeros((len(rows), judge.counts().shape[1])) for judge in judges]
    for part, judge in zip(parts, judges, strict=True):
        part[np.searchsorted(rows, judge.rows)] = judge.counts()
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]

    def value(means: np.ndarray) -> np.ndarray:  # each is a quotient of sums, so that frames of other heads do not count
        told = [judge.value(part) for judge, part in zip(judges, np.split(means, ends, axis=-1), strict=True)]
        return np.mean(told, axis=0)

    return Statistics(np.concatenate(parts, axis=1), value)


def _of(judges: dict[str, AnyJudge], several: bool) -> dict[str, float]:
    measured = {name: value for judge in judges.values() for name, value in judge.scores().items()}
    mean = {MEAN: float(np.mean([measured[judge.main] for judge in judges.values()]))} if several and judges else {}
    return mean | measured


def monitor_of(heads: tuple[str, ...]) -> str:
    """The score that a network with these heads is chosen by."""
    return JUDGES[heads[0]].main if len(heads) == 1 else MEAN
