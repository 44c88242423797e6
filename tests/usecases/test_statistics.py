"""The monitored score computed from per-example statistics is the score itself, for every vertical."""

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


def made_of_its_statistics(usecase: UseCase, predict: Predict, folder: Path) -> None:
    assert isinstance(usecase, HasStatistics)
    statistics = usecase.statistics(predict, folder, "test")
    assert isinstance(statistics, Statistics)
    score = usecase.score(predict, folder, "test")[usecase.monitor]
    several = np.stack([statistics.counts.mean(0)] * 3)
    assert statistics.value(several) == pytest.approx([score] * 3, abs=1e-6), "many samples are scored at once"


@pytest.mark.parametrize("case", SMALL)
def test_the_monitored_score_is_made_of_its_statistics(case: str, tmp_path: Path) -> None:
    card = SMALL[case].prepare(tmp_path)
    usecase = resolved(SMALL[case], card)
    torch.manual_seed(0)
    predict = torch_predict(usecase, usecase.network(tmp_path / "assets").eval())
    made_of_its_statistics(usecase, predict, tmp_path)
    if isinstance(usecase, DrivingPerception):
        made_of_its_statistics(usecase.model_copy(update={"scenario": "night"}), predict, tmp_path)


def test_a_score_that_is_no_function_of_means_has_no_statistics(tmp_path: Path) -> None:
    usecase = ROADS.model_copy(update={"heads": ("boxes",)})
    usecase.prepare(tmp_path)
    predict = torch_predict(usecase, usecase.network(tmp_path / "assets").eval())
    assert usecase.statistics(predict, tmp_path, "test") is None
