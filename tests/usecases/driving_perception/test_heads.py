"""A new head is one class and one row of the table: everything else finds it there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn

from tasks.contract.types import Arrays, Say
from tasks.exporting.export import check_parity, write_graph
from tasks.training.predicting import torch_predict
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.codec import RoadCodec
from usecases.driving_perception.drawing import overlay
from usecases.driving_perception.frames import Frame
from usecases.driving_perception.heads.head import Evaluator, FrameInfo, Head, Plan, Predictions, Reading
from usecases.driving_perception.heads.table import HEADS

if TYPE_CHECKING:
    from usecases.driving_perception.scenes import StoredScenes


class BrightnessHead(Head):
    """How bright a picture is, from 0 to 1: as little as a head can be."""

    name: ClassVar[str] = "brightness"
    outputs: ClassVar[tuple[str, ...]] = ("brightness",)
    arrays: ClassVar[tuple[str, ...]] = ("brightness",)
    metric: ClassVar[str] = "brightness_accuracy"

    def label(self, frame: Frame, picture: Image.Image, reading: Reading) -> float:
        return float(np.asarray(picture.convert("L")).mean() / 255)

    def write(self, folder: Path, frames: Sequence[FrameInfo], plan: Plan, settings: DrivingPerception, say: Say) -> None:
        np.save(folder / "brightness.npy", np.array([one.labels[self.name] for one in frames], dtype=np.float32))

    def network(self, features: int, card: dict[str, Any], settings: DrivingPerception) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 1), nn.Sigmoid())

    def loss(self, network: nn.Module, predictions: Predictions, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        return (predictions[0][:, 0] - batch["brightness"]).square().mean()

    def evaluator(self, scenes: StoredScenes, card: dict[str, Any]) -> BrightnessEvaluator:
        return BrightnessEvaluator()

    def answer(self, outputs: Arrays, picture: Image.Image, card: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        return {"brightness": round(float(outputs["brightness"][0]), 4)}, []


class BrightnessEvaluator(Evaluator):
    def __init__(self) -> None:
        super().__init__()
        self.errors: list[float] = []

    def add(self, row: int, truth: Arrays, answers: Arrays) -> None:
        self.rows.append(row)
        self.errors.append(abs(float(truth["brightness"] - answers["brightness"][0])))

    def scores(self) -> dict[str, float]:
        return {"brightness_accuracy": 1 - float(np.mean(self.errors))}


def test_a_head_in_the_table_is_prepared_learnt_scored_and_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, "brightness", BrightnessHead())
    asked = DrivingPerception.model_validate({"heads": ["mask", "brightness"], "height": 24, "width": 32, "channels": 8})
    card = asked.prepare(tmp_path)
    usecase = asked.resolve(card)
    assert isinstance(usecase, DrivingPerception) and usecase.heads == ("mask", "brightness")
    torch.manual_seed(0)
    network, train = usecase.network(tmp_path / "assets").train(), usecase.examples(tmp_path, "train")
    optimizer, losses = torch.optim.Adam(network.parameters(), 0.01), []
    batch = {name: torch.from_numpy(array) for name, array in train.batch(np.arange(0, len(train), 8)).items()}
    for _ in range(12):
        losses.append(usecase.loss(network, batch))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert float(losses[-1].detach()) < float(losses[0].detach())
    usecase.distillation_loss(network, usecase.network(tmp_path / "assets").eval(), batch, 0.5, 2.0).backward()
    predict = torch_predict(usecase, network.eval())
    usecase.calibrate(network, predict, tmp_path)
    assert 0 < usecase.score(predict, tmp_path, "test")[usecase.monitor] <= 1
    assert usecase.statistics(predict, tmp_path, "test") is None, "it does not say how its score is made"
    assert usecase.figures(predict, tmp_path)["blocks"] and len(usecase.attributions(network, tmp_path)) == 1
    inputs = usecase.calibration_inputs(tmp_path, np.arange(2))
    write_graph(usecase, network, inputs, tmp_path / "model.onnx")
    check_parity(usecase, network, inputs, tmp_path / "model.onnx")
    codec, request = RoadCodec(tmp_path / "assets"), usecase.example_request(tmp_path).read_bytes()
    (answer,) = codec.decode(predict(codec.encode([request])), [request])
    assert 0 <= answer["brightness"] <= 1 and "mask" in answer
    (picture,) = codec.images([request])
    assert overlay(picture, answer, codec.card).size == picture.size


def test_a_head_that_is_not_in_the_table_is_refused_and_those_that_are_named() -> None:
    with pytest.raises(ValidationError, match=r"there is no head 'masks'; the heads are mask, boxes, steering, signal"):
        DrivingPerception.model_validate({"heads": ["masks"]})
    items = DrivingPerception.model_json_schema()["properties"]["heads"]["items"]
    assert items["enum"] == ["mask", "boxes", "steering", "signal"], "forms show a choice"


def test_settings_and_weights_of_earlier_bundles_are_still_understood(tmp_path: Path) -> None:
    old = {"heads": ["mask", "steering"], "mask_weight": 1.0, "boxes_weight": 0.5, "steering_weight": 0.25, "signal_weight": 0.5}
    usecase = DrivingPerception.model_validate({**old, "height": 24, "width": 32, "channels": 8})
    assert [HEADS[name].weight(usecase) for name in usecase.heads] == [1.0, 0.25]
    usecase.prepare(tmp_path)
    names = {name for name in usecase.network(tmp_path / "assets").state_dict() if name.startswith("heads.")}
    assert names >= {"heads.mask.classify.weight", "heads.mask.temperature", "heads.steering.say.weight", "heads.steering.trust"}
