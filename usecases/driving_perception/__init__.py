"""Driving perception: pictures of a road to what is where in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from tasks.usecase import Arrays, Codec, Examples, Predict, Say, Split, UseCase, silently

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.driving_perception.network import RoadNetwork
    from usecases.driving_perception.steering import SteeringNetwork

CALIBRATED = 2  # images of a batch that calibrate: each has as many places as hundreds of small ones


class DrivingPerception(UseCase):
    """Names the class of every pixel of a road scene. Advice for study: it is no safety system."""

    name: ClassVar[str] = "driving_perception"
    monitor: ClassVar[str] = "miou"
    input_names: ClassVar[tuple[str, ...]] = ("image",)
    output_names: ClassVar[tuple[str, ...]] = ("mask", "sure")

    data: str = Field(
        default="sample",
        description="'sample' (drawn road scenes), a folder of images and masks, or of recorded drives, in a standard layout",
    )
    task: Literal["auto", "segmentation", "steering"] = Field(
        default="auto", description="what is to be learnt: the class of every pixel, or how to steer; auto: told from the files"
    )
    height: int = Field(
        default=0, ge=0, le=2048, description="of the images that the network sees, in pixels; 0: their own, up to 512 wide"
    )
    width: int = Field(default=0, ge=0, le=2048, description="of the images that the network sees, in pixels; 0: their own, up to 512 wide")
    dev_is_test: bool = Field(
        default=False, description="test on the validation split that is given, as papers do whose test split is not at hand"
    )
    validation_share: float = Field(default=0.15, gt=0, lt=0.5, description="share of the frames kept for validation, where none are given")
    test_share: float = Field(default=0.15, gt=0, lt=0.5, description="share of the frames kept for the test, where none are given")
    split_seed: int = Field(default=0, ge=0, description="fixes the splits")
    tolerance: float = Field(default=0.05, ge=0, le=1, description="share of unusable frames past which the run is refused before training")

    channels: int = Field(
        default=48, ge=8, le=256, description="of the network at a quarter of the resolution; it has up to four times as many"
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="share of channels that training blanks before the last layer")
    balance: Literal["none", "log"] = Field(
        default="log", description="classes in the loss: as they come, or the rarer the heavier, by the logarithm of their share"
    )
    crop: float = Field(default=0.75, gt=0.2, le=1, description="side of what training cuts out of an image, as a share of the image's")
    zoom: float = Field(default=0.4, ge=0, lt=1, description="training enlarges and shrinks images by up to this share")
    mirror: bool = Field(default=True, description="training mirrors half of the images, and the steering with them")
    side_steering: float = Field(
        default=0.2, ge=0, le=1, description="what cameras at the left and right of the car add to the steering that was recorded"
    )
    colour: float = Field(default=0.3, ge=0, lt=1, description="training changes light, contrast and colour by up to this share")

    def data_digest(self) -> str:
        from usecases.driving_perception.layouts import data_digest

        return data_digest(self.data)

    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        from usecases.driving_perception.drives import is_drives
        from usecases.driving_perception.prepare import prepare
        from usecases.driving_perception.prepare_drives import prepare_drives

        steers = self.task == "steering" or (self.task == "auto" and is_drives(self.data))
        return prepare_drives(self, folder, say) if steers else prepare(self, folder, say)

    def settled(self, card: dict[str, Any]) -> UseCase:
        """Segmentation or steering, as the data are."""
        return (Steering if card["task"] == "steering" else DrivingPerception)(**self.model_dump())

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.driving_perception.scenes import StoredScenes

        return StoredScenes(folder / split)

    def calibration_inputs(self, folder: Path, rows: np.ndarray) -> Arrays:
        return super().calibration_inputs(folder, rows[:CALIBRATED])

    def network(self, assets: Path) -> nn.Module:
        from usecases.driving_perception.network import build

        return build(self, assets)

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        from usecases.driving_perception.objective import segmentation_loss

        return segmentation_loss(self, cast("RoadNetwork", network), batch)

    def finish(self, network: nn.Module, predict: Predict, folder: Path) -> None:
        from usecases.driving_perception.objective import fit_temperature

        fit_temperature(cast("RoadNetwork", network), self.examples(folder, "validation"))

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.driving_perception.network import Segmented

        return Segmented(cast("RoadNetwork", network))

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        from usecases.driving_perception.scores import scores

        return scores(predict, folder, split)

    def codec(self, assets: Path) -> Codec:
        from usecases.driving_perception.codec import SceneCodec

        return SceneCodec(assets)

    def example_request(self, folder: Path) -> Path:
        return folder / "example.png"

    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        from usecases.driving_perception.figures import figures

        return figures(predict, folder)


class Steering(DrivingPerception):
    """Says how a driver would steer, and give gas where that was recorded too. For study: it is no safety system."""

    name: ClassVar[str] = "steering"
    monitor: ClassVar[str] = "steering_r2"
    output_names: ClassVar[tuple[str, ...]] = ("values", "deviations")

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.driving_perception.prepare_drives import StoredDrives

        return StoredDrives(folder / split)

    def network(self, assets: Path) -> nn.Module:
        from usecases.driving_perception.steering import build_steering

        return build_steering(self, assets)

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        from usecases.driving_perception.steering import steering_loss

        return steering_loss(self, cast("SteeringNetwork", network), batch)

    def finish(self, network: nn.Module, predict: Predict, folder: Path) -> None:
        from usecases.driving_perception.steering import fit_widening

        fit_widening(cast("SteeringNetwork", network), predict, self.examples(folder, "validation"))

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.driving_perception.steering import Steered

        return Steered(cast("SteeringNetwork", network))

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        from usecases.driving_perception.steering_scores import steering_scores

        return steering_scores(predict, folder, split)

    def codec(self, assets: Path) -> Codec:
        from usecases.driving_perception.codec import SteeringCodec

        return SteeringCodec(assets)

    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        from usecases.driving_perception.steering_scores import steering_figures

        return steering_figures(predict, folder)
