"""Image classification: from labelled images to a network that predicts their class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from pydantic import Field

from tasks.contract.capabilities import Calibrated, Distillable, HasFigures, HasHiddenStates, HasStatistics, Pretrainable
from tasks.contract.codec import Codec
from tasks.contract.statistics import Statistics
from tasks.contract.types import Predict, Say, Split, silently
from tasks.contract.usecase import Examples, UseCase, setting
from usecases.reading.digests import DataName

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.image_classification.network import Classifier


class ImageSettings(UseCase):
    """Settings of the data and the backbone, shared by pretraining and classification."""

    data: DataName = setting(
        "sample", prepare=True, description="'sample' (handwritten digits), a folder or file in a standard layout, or hf://owner/name"
    )
    image_column: str = setting(
        "", prepare=True, description="column of the image in a CSV, JSON lines, parquet or hub data set; empty: detected by content"
    )
    label_column: str = setting(
        "",
        prepare=True,
        description="column of the label in a CSV, JSON lines, parquet or hub data set; empty: detected by name and content",
    )
    encoding: str = setting("", prepare=True, description="encoding of lists of images, such as latin-1 or gb18030; empty: detected")
    size: int = setting(
        0, prepare=True, ge=0, le=1024, description="side in pixels to which images are resized; 0: chosen from the sizes of the images"
    )
    channels: Literal["auto", "grey", "rgb"] = setting(
        "auto", prepare=True, description="channels of the images; auto: rgb if any image has colour, else grey"
    )
    validation_share: float = setting(
        0.1, prepare=True, gt=0, lt=0.5, description="share of the training data used for validation if the data set has no such split"
    )
    test_share: float = setting(
        0.1, prepare=True, gt=0, lt=0.5, description="share of the data used for the test if the data set has no such split"
    )
    split_seed: int = setting(0, prepare=True, ge=0, description="random seed of the splits")
    tolerance: float = setting(
        0.05, prepare=True, ge=0, le=1, description="largest accepted share of unusable images; a larger one stops the run before training"
    )
    backbone: str = Field(
        default="",
        description="pretrained backbone: the folder of a checkpoint of this project, or a model of transformers (owner/name on the hub, a local folder, or "
        "config:resnet for random weights); empty: a residual network for small images, trained from scratch",
    )
    width: int = Field(default=32, ge=4, le=256, description="channels of the first stage of the network trained from scratch")
    flip: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="random horizontal flip in training; auto: for colour images only, since flipped digits and letters are others",
    )
    shift: float = Field(default=0.07, ge=0, lt=0.5, description="largest random shift in training, as a share of the side")
    colour: float = Field(default=0.0, ge=0, le=1, description="strength of the colour jitter in training, for colour images only; 0: off")
    erase: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="side of the square that random erasing (Cutout) hides in training, as a share of the side; 0: off",
    )
    policy: Literal["none", "trivial", "rand"] = Field(
        default="none", description="automatic augmentation in training: TrivialAugment or RandAugment"
    )

    def data_digest(self) -> str:
        from usecases.image_classification.layouts import images_elsewhere
        from usecases.reading.digests import data_digest

        return data_digest(self.data, *images_elsewhere(self))

    def weights_digest(self) -> str:
        from usecases.reading.digests import weights_digest

        return weights_digest(self.backbone)

    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        from usecases.image_classification.prepare import prepare

        return prepare(self, folder, say)

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.image_classification.prepare import StoredImages

        return StoredImages(folder / split)

    def codec(self, assets: Path) -> Codec:
        from usecases.image_classification.codec import ImageCodec

        return ImageCodec(assets)

    def example_request(self, folder: Path) -> Path:
        return folder / "example.png"


class ImageClassification(ImageSettings, Pretrainable, Distillable, HasHiddenStates, Calibrated, HasStatistics, HasFigures):
    """Predicts the class of an image."""

    name: ClassVar[str] = "image_classification"

    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout rate before the classifier head")
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="label smoothing: target probability that is spread over all classes"
    )
    mixup: float = Field(default=0.0, ge=0, description="alpha of mixup's Beta distribution; 0: off")
    mirror_average: bool = Field(
        default=False,
        description="average the logits of the image and its horizontal flip (test-time augmentation): slightly more accurate, twice the computation",
    )
    cutmix: float = Field(default=0.0, ge=0, description="alpha of CutMix's Beta distribution; 0: off")
    student: int = Field(
        default=0,
        ge=0,
        le=256,
        description="width of a student network that is distilled from the trained one as a further candidate; 0: no student",
    )

    @property
    def monitor(self) -> str:
        return "accuracy"

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("image",)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("probabilities",)

    @classmethod
    def small(cls) -> Self:
        return cls(width=8, student=4)

    def network(self, assets: Path) -> nn.Module:
        from usecases.image_classification.objective import classifier

        return classifier(self, assets)

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        from usecases.image_classification.objective import classification_loss

        return classification_loss(self, network, batch)

    def logits(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        from usecases.image_classification.objective import augmented

        return network(augmented(self, batch["image"])), batch["label"]

    def student_usecase(self) -> UseCase | None:
        return self.model_copy(update={"width": self.student, "backbone": "", "student": 0}) if self.student else None

    def hidden_layers(self, network: nn.Module) -> list[nn.Module]:
        return cast("Classifier", network).backbone.layers()[1:]

    def pretraining(self) -> UseCase | None:
        if self.backbone:
            return None
        shared = {field: getattr(self, field) for field in ImageSettings.model_fields}
        return ViewInvariance(**shared)

    def calibrate(self, network: nn.Module, predict: Predict, folder: Path) -> None:
        from usecases.image_classification.objective import fit_temperature

        fit_temperature(network, predict, self.examples(folder, "validation"))

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.image_classification.objective import Calibrated

        return Calibrated(network, self.mirror_average)

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        from usecases.image_classification.scores import scores

        return scores(predict, self.examples(folder, split))

    def statistics(self, predict: Predict, folder: Path, split: Split) -> Statistics:
        from usecases.image_classification.scores import statistics

        return statistics(predict, self.examples(folder, split))

    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        from usecases.image_classification.scores import figures

        return figures(predict, self.examples(folder, "test"), folder / "assets")


class ViewInvariance(ImageSettings):
    """Pretraining without labels: two views of an image should have the same features (Barlow Twins, Zbontar 2021)."""

    name: ClassVar[str] = "image_view_invariance"

    @property
    def monitor(self) -> str:
        return "invariance"

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("image",)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("embedding",)

    def network(self, assets: Path) -> nn.Module:
        from usecases.image_classification.objective import view_network

        return view_network(self, assets)

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        from usecases.image_classification.objective import view_loss

        return view_loss(self, network, batch)

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        from usecases.image_classification.scores import invariance

        return invariance(predict, self.examples(folder, split))
