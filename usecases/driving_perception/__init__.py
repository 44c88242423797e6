"""Driving perception: pictures of a road to what is where in them, how to steer, and what to do."""

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

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.driving_perception.network import RoadNetwork
    from usecases.driving_perception.scenes import StoredScenes

LEAST_CHANNELS = 8
CALIBRATED = 2  # images of a batch that calibrate: each has as many places as hundreds of small ones


class HeadName:
    """A name in the table of heads. Forms show those that there are."""

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
    """One network with a head for each of: the class of every pixel, boxes, steering, signs and lights. Advice for study: it is no safety system."""

    name: ClassVar[str] = "driving_perception"

    data: str = setting(
        "sample",
        prepare=True,
        description="'sample' (drawn road scenes), or folders with commas between them, each of images with masks, with boxes, of "
        "recorded drives, or of signs and lights by themselves, in a standard layout",
    )
    heads: tuple[Annotated[str, HeadName()], ...] = setting(
        (),
        prepare=True,
        description="what is to be learnt: mask, the class of every pixel; boxes; steering; signal, which sign or light it is; empty: all "
        "that the data know",
    )
    scenario: str = setting(
        "",
        prepare=True,
        description="what the network is adapted to once everything is learnt, such as night: a word in the names of the frames' folders "
        "or files, or one of several data folders; empty: no adaptation",
    )
    height: int = setting(
        0, prepare=True, ge=0, le=2048, description="of the images that the network sees, in pixels; 0: their own, up to 512 wide"
    )
    width: int = setting(
        0, prepare=True, ge=0, le=2048, description="of the images that the network sees, in pixels; 0: their own, up to 512 wide"
    )
    dev_is_test: bool = setting(
        False, prepare=True, description="test on the validation split that is given, as papers do whose test split is not at hand"
    )
    validation_share: float = setting(
        0.15, prepare=True, gt=0, lt=0.5, description="share of the frames kept for validation, where none are given"
    )
    test_share: float = setting(0.15, prepare=True, gt=0, lt=0.5, description="share of the frames kept for the test, where none are given")
    split_seed: int = setting(0, prepare=True, ge=0, description="fixes the splits")
    tolerance: float = setting(
        0.05, prepare=True, ge=0, le=1, description="share of unusable frames past which the run is refused before training"
    )

    mask_weight: float = Field(default=1.0, gt=0, description="of the masks in the loss of several heads")
    boxes_weight: float = Field(default=0.5, gt=0, description="of the boxes in the loss of several heads")
    steering_weight: float = Field(default=0.5, gt=0, description="of the steering in the loss of several heads")
    signal_weight: float = Field(default=0.5, gt=0, description="of signs and lights in the loss of several heads")
    channels: int = Field(
        default=48,
        ge=8,
        le=256,
        multiple_of=8,
        description="of the network at a quarter of the resolution; it has up to four times as many",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="share of channels that training blanks before the last layer")
    balance: Literal["none", "log"] = Field(
        default="log", description="classes in the loss: as they come, or the rarer the heavier, by the logarithm of their share"
    )
    crop: float = Field(default=0.75, gt=0.2, le=1, description="side of what training cuts out of an image, as a share of the image's")
    zoom: float = Field(default=0.4, ge=0, lt=1, description="training enlarges and shrinks images by up to this share")
    mirror: bool = Field(
        default=True, description="training mirrors half of the images, and the steering with them; never signs or lights by themselves"
    )
    side_steering: float = setting(
        0.2, prepare=True, ge=0, le=1, description="what cameras at the left and right of the car add to the steering that was recorded"
    )
    speed: Literal["auto", "yes", "no"] = setting(
        "auto", prepare=True, description="whether the network is told the speed to steer by; auto: where it was recorded at every moment"
    )
    turn: Literal["auto", "yes", "no"] = setting(
        "auto",
        prepare=True,
        description="whether the network is told how far the view turned in the last moments, to steer by what the car is doing; auto: "
        "where recorded moments follow on one another. Nearer to what was driven, but what drives by it may go on doing what it does (Wen 2020)",
    )
    steadiness: float = setting(
        1.0,
        prepare=True,
        ge=0,
        description="moments over which training smooths what was driven (deviation of a bell): people steer in jerks, and where the next "
        "one falls no picture shows",
    )
    colour: float = Field(default=0.3, ge=0, lt=1, description="training changes light, contrast and colour by up to this share")

    @property
    def monitor(self) -> str:
        """Of one head its metric: miou, map, steering_r2 or macro_recall; of several their mean; where a scenario is adapted to, there."""
        from usecases.driving_perception.scores import monitor_of

        return f"{monitor_of(self.heads)}/{self.scenario}" if self.scenario else monitor_of(self.heads)

    @property
    def input_names(self) -> tuple[str, ...]:
        from usecases.driving_perception.scenes import TOLD

        return ("image", *(name for name in TOLD if getattr(self, name) == "yes"))

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
        """With the heads that the data have something for, and what the network is told where they know it."""
        from usecases.driving_perception.scenes import TOLD

        return self.model_copy(update={"heads": tuple(card["heads"]), **{name: "yes" if name in card["told"] else "no" for name in TOLD}})

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
        """Two thirds of the channels, less than half of the weights."""
        channels = max(LEAST_CHANNELS, self.channels * 2 // 3 // 8 * 8)
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
