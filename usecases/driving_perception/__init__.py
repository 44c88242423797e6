"""Driving perception: segmentation, object detection, steering, and classification of signs and lights from images of a road."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

import numpy as np
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from tasks.contract.capabilities import (
    Adaptable,
    Attributable,
    Calibrated,
    Distillable,
    Explainable,
    HasFigures,
    HasHiddenStates,
    HasStatistics,
    Resolvable,
)
from tasks.contract.codec import Codec
from tasks.contract.statistics import Statistics
from tasks.contract.types import Arrays, Predict, Say, Split, silently
from tasks.contract.usecase import Examples, UseCase, setting
from usecases.reading.digests import DataName

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.driving_perception.network import RoadNetwork
    from usecases.driving_perception.scenes import StoredScenes

MIN_CHANNELS = 8
CALIBRATED = 2  # images of a calibration batch: each has as many pixels as hundreds of small ones


class HeadName:
    """A name in the table of heads; forms list them as choices."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_known_head, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        from usecases.driving_perception.heads.table import HEADS

        return {**handler(schema), "enum": list(HEADS)}


def _known_head(name: str) -> str:
    from usecases.driving_perception.heads.table import known_head

    return known_head(name)


class DrivingPerception(
    UseCase, Resolvable, Adaptable, Distillable, HasHiddenStates, Calibrated, HasStatistics, Explainable, Attributable, HasFigures
):
    """One network with a head for each task: segmentation masks, boxes, steering, signs and lights. For research only: it is no safety system."""

    name: ClassVar[str] = "driving_perception"

    data: DataName = setting(
        "sample",
        prepare=True,
        description="'sample' (drawn road scenes), or folders separated by commas, each in a standard layout of images with masks, images with "
        "boxes, recorded drives, or crops of signs and lights",
    )
    heads: tuple[Annotated[str, HeadName()], ...] = setting(
        (),
        prepare=True,
        description="heads of the network: mask (semantic segmentation), boxes (object detection), steering, signal (classification of signs "
        "and lights); empty: all that the data have labels for",
    )
    scenario: str = setting(
        "",
        prepare=True,
        description="scenario that the trained network is fine-tuned for, such as night: a word in the names of folders or files, or the name of "
        "one of several data folders; empty: no fine-tuning",
    )
    height: int = setting(
        0, prepare=True, ge=0, le=2048, description="height in pixels of the network's images; 0: that of the data, up to a width of 512"
    )
    width: int = setting(
        0, prepare=True, ge=0, le=2048, description="width in pixels of the network's images; 0: that of the data, up to 512"
    )
    dev_is_test: bool = setting(
        False, prepare=True, description="test on the given validation split, as papers do where the test labels are not published"
    )
    validation_share: float = setting(
        0.15, prepare=True, gt=0, lt=0.5, description="share of the frames used for validation if the data set has no such split"
    )
    test_share: float = setting(
        0.15, prepare=True, gt=0, lt=0.5, description="share of the frames used for the test if the data set has no such split"
    )
    split_seed: int = setting(0, prepare=True, ge=0, description="random seed of the splits")
    tolerance: float = setting(
        0.05, prepare=True, ge=0, le=1, description="largest accepted share of unusable frames; a larger one stops the run before training"
    )

    mask_weight: float = Field(default=1.0, gt=0, description="weight of the segmentation loss in the loss of several heads")
    boxes_weight: float = Field(default=0.5, gt=0, description="weight of the detection loss in the loss of several heads")
    steering_weight: float = Field(default=0.5, gt=0, description="weight of the steering loss in the loss of several heads")
    signal_weight: float = Field(default=0.5, gt=0, description="weight of the loss of signs and lights in the loss of several heads")
    channels: int = Field(
        default=48,
        ge=8,
        le=256,
        multiple_of=8,
        description="channels of the network at a quarter of the resolution; deeper layers have up to four times as many",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout rate before the last layer of each head")
    balance: Literal["none", "log"] = Field(
        default="log",
        description="class weights of the segmentation loss; none: all classes weigh the same; log: rare classes weigh more, by the logarithm of their share",
    )
    crop: float = Field(default=0.75, gt=0.2, le=1, description="side of the random crops of training, as a share of the image's side")
    zoom: float = Field(default=0.4, ge=0, lt=1, description="largest random change of scale in training, as a share")
    mirror: bool = Field(
        default=True, description="random horizontal flip in training, of images and steering; crops of signs and lights are never flipped"
    )
    side_steering: float = setting(
        0.2, prepare=True, ge=0, le=1, description="steering correction for images of the left (+) and right (-) cameras of the car"
    )
    speed: Literal["auto", "yes", "no"] = setting(
        "auto", prepare=True, description="whether the speed is an input of the steering head; auto: if it was recorded at every moment"
    )
    turn: Literal["auto", "yes", "no"] = setting(
        "auto",
        prepare=True,
        description="whether the yaw rates of the preceding moments, estimated from the images, are inputs of the steering head; auto: if most "
        "recorded moments are consecutive. Improves scores on recordings, but a car that drives by it may repeat its own actions (copycat "
        "problem, Wen 2020)",
    )
    steadiness: float = setting(
        1.0,
        prepare=True,
        ge=0,
        description="standard deviation, in moments, of the Gaussian that smooths the recorded steering for training, since people steer in "
        "jerks that no image predicts; 0: off",
    )
    colour: float = Field(
        default=0.3, ge=0, lt=1, description="strength of the random changes of brightness, contrast and colour in training; 0: off"
    )

    @property
    def monitor(self) -> str:
        """The metric of one head (miou, map, steering_r2 or macro_recall) or the mean of several; with `scenario`, of its frames only."""
        from usecases.driving_perception.scores import monitor_of

        return f"{monitor_of(self.heads)}/{self.scenario}" if self.scenario else monitor_of(self.heads)

    @property
    def input_names(self) -> tuple[str, ...]:
        from usecases.driving_perception.scenes import CONDITIONING

        return ("image", *(name for name in CONDITIONING if getattr(self, name) == "yes"))

    @property
    def output_names(self) -> tuple[str, ...]:
        from usecases.driving_perception.heads.table import HEADS

        return tuple(output for name, head in HEADS.items() if name in self.heads for output in head.outputs)

    @classmethod
    def small(cls) -> Self:
        return cls(channels=16, height=48, width=64)

    def data_digest(self) -> str:
        from usecases.driving_perception.sources import parts_of
        from usecases.reading.digests import data_digest

        return data_digest(*parts_of(self.data))

    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        from usecases.driving_perception.prepare import prepare

        return prepare(self, folder, say)

    def resolve(self, card: dict[str, Any]) -> UseCase:
        """The use case with the heads that the data have labels for, and the conditioning inputs that the data record."""
        from usecases.driving_perception.scenes import CONDITIONING

        return self.model_copy(
            update={"heads": tuple(card["heads"]), **{name: "yes" if name in card["conditioning"] else "no" for name in CONDITIONING}}
        )

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.driving_perception.scenes import StoredScenes

        return StoredScenes(folder / split)

    def focus(self, folder: Path) -> np.ndarray | None:
        from usecases.driving_perception.scenes import StoredScenes

        scenes = StoredScenes(folder / "train")
        return np.array([row for row, name in enumerate(scenes.slices()) if name == self.scenario]) if self.scenario else None

    def calibration_inputs(self, folder: Path, rows: np.ndarray) -> Arrays:
        return super().calibration_inputs(folder, rows[:CALIBRATED])

    def network(self, assets: Path) -> nn.Module:
        from usecases.driving_perception.network import build

        return build(self, assets)

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        from usecases.driving_perception.network import loss

        return loss(self, cast("RoadNetwork", network), batch)

    def student_usecase(self) -> UseCase | None:
        """A student with two thirds of the channels and less than half of the weights."""
        channels = max(MIN_CHANNELS, self.channels * 2 // 3 // 8 * 8)
        return self.model_copy(update={"channels": channels}) if channels < self.channels else None

    def distillation_loss(
        self, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
    ) -> Tensor:
        from usecases.driving_perception.network import distillation_loss

        return distillation_loss(self, cast("RoadNetwork", student), cast("RoadNetwork", teacher), batch, weight, temperature)

    def hidden_layers(self, network: nn.Module) -> list[nn.Module]:
        return cast("RoadNetwork", network).backbone.layers()[1:]

    def calibrate(self, network: nn.Module, predict: Predict, folder: Path) -> None:
        from usecases.driving_perception.network import calibrate

        calibrate(cast("RoadNetwork", network), cast("StoredScenes", self.examples(folder, "validation")))

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.driving_perception.network import Perceived

        return Perceived(cast("RoadNetwork", network))

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        from usecases.driving_perception.scores import scores

        return scores(predict, folder, split)

    def statistics(self, predict: Predict, folder: Path, split: Split) -> Statistics | None:
        from usecases.driving_perception.scores import statistics

        return statistics(predict, folder, split, self.scenario)

    def codec(self, assets: Path) -> Codec:
        from usecases.driving_perception.codec import RoadCodec

        return RoadCodec(assets)

    def example_request(self, folder: Path) -> Path:
        return folder / "example.png"

    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        from usecases.driving_perception.figures import figures

        return figures(predict, folder)

    def explain(self, predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
        from usecases.driving_perception.explaining import explain

        return explain(predict, codec, request)

    def attributions(self, network: nn.Module, folder: Path) -> list[dict[str, Any]]:
        from usecases.driving_perception.attributions import attributions

        return attributions(cast("RoadNetwork", network), folder)
