"""A score taken apart by examples: put together again it is the score, for every vertical."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.contract.capabilities import HasStatistics, resolved
from tasks.contract.statistics import Statistics
from tasks.contract.types import Predict
from tasks.contract.usecase import UseCase
from tasks.training.predicting import torch_predict
from usecases.driving_perception import DrivingPerception
from usecases.image_classification import ImageClassification
from usecases.nlp import TextClassification
from usecases.recommendation import Recommendation

ROADS = DrivingPerception(heads=("mask", "steering"), height=48, width=64, channels=8)
SMALL: dict[str, UseCase] = {
    "images": ImageClassification(),
    "texts": TextClassification(width=32, depth=1),
    "histories": Recommendation(),
    "roads": ROADS,
}


def made_of_its_tallies(usecase: UseCase, predict: Predict, folder: Path) -> None:
    assert isinstance(usecase, HasStatistics)
    tallies = usecase.statistics(predict, folder, "test")
    assert isinstance(tallies, Statistics)
    score = usecase.score(predict, folder, "test")[usecase.monitor]
    several = np.stack([tallies.counts.mean(0)] * 3)
    assert tallies.value(several) == pytest.approx([score] * 3, abs=1e-6), "many samples are scored at once"


@pytest.mark.parametrize("case", SMALL)
def test_the_monitored_score_is_made_of_its_tallies(case: str, tmp_path: Path) -> None:
    card = SMALL[case].prepare(tmp_path)
    usecase = resolved(SMALL[case], card)
    torch.manual_seed(0)
    predict = torch_predict(usecase, usecase.network(tmp_path / "assets").eval())
    made_of_its_tallies(usecase, predict, tmp_path)
    if isinstance(usecase, DrivingPerception):
        made_of_its_tallies(usecase.model_copy(update={"scenario": "night"}), predict, tmp_path)


def test_what_is_no_sum_over_examples_is_not_taken_apart(tmp_path: Path) -> None:
    usecase = ROADS.model_copy(update={"heads": ("boxes",)})
    usecase.prepare(tmp_path)
    predict = torch_predict(usecase, usecase.network(tmp_path / "assets").eval())
    assert usecase.statistics(predict, tmp_path, "test") is None
