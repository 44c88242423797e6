"""What each head says of a split beside what is known, judged in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tasks.errors import DataError
from tasks.usecase import Arrays, Predict, Split
from usecases.driving_perception.box_scores import BoxJudge
from usecases.driving_perception.mask_scores import MaskJudge
from usecases.driving_perception.scenes import StoredScenes, read_card
from usecases.driving_perception.signal_scores import SignalJudge
from usecases.driving_perception.steering_scores import SteeringJudge

BATCH = 8
MEAN = "mean_of_heads"


class Judge(Protocol):
    main: str

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


def judged(predict: Predict, folder: Path, split: Split) -> dict[str, AnyJudge]:
    """A judge for each head, of the frames of which is known what it is to say.

    Raises:
        DataError: there are none for one of the heads.
    """
    scenes, card = StoredScenes(folder / split), read_card(folder / "assets")
    judges = {head: JUDGES[head](scenes, card) for head in card["heads"]}
    known = {head: set(scenes.rows_with(head).tolist()) for head in judges}
    for head, rows in known.items():
        if not rows:
            raise DataError(f"There are no frames with {head} in the {split} split that is to be scored.")
    for start in range(0, len(scenes), BATCH):
        batch = scenes.batch(np.arange(start, min(start + BATCH, len(scenes))))
        said = predict({"image": batch["image"]})
        for place, row in enumerate(range(start, min(start + BATCH, len(scenes)))):
            for head, judge in judges.items():
                if row in known[head]:
                    judge.add(row, {name: array[place] for name, array in batch.items()}, {n: array[place] for n, array in said.items()})
    return judges


def scores(predict: Predict, folder: Path, split: Split) -> dict[str, float]:
    """The scores of every head; of several, `mean_of_heads` is the mean of miou, map, steering_r2 and macro_recall."""
    judges = judged(predict, folder, split)
    measured = {name: value for judge in judges.values() for name, value in judge.scores().items()}
    if len(judges) > 1:
        measured = {MEAN: float(np.mean([measured[judge.main] for judge in judges.values()])), **measured}
    return measured


def monitor_of(heads: tuple[str, ...]) -> str:
    """The score that a network with these heads is chosen by."""
    return JUDGES[heads[0]].main if len(heads) == 1 else MEAN
