"""Image classification: a folder of pictures to a network that names them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from pydantic import Field

from tasks.contract.capabilities import Calibrated, Distillable, HasFigures, HasHiddenStates, HasStatistics, Pretrainable
from tasks.contract.codec import Codec
from tasks.contract.statistics import Statistics
from tasks.contract.types import Predict, Say, Split, silently
from tasks.contract.usecase import Examples, UseCase, setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.image_classification.network import Classifier


class ImageSettings(UseCase):
    """What pretraining and classification share: the data and the backbone."""

    data: str = setting(
        "sample", prepare=True, description="'sample' (handwritten digits), a folder or file in a standard layout, or hf://owner/name"
    )
    image_column: str = setting(
        "", prepare=True, description="column of the image in a CSV, parquet or hub data set; empty: found by content"
    )
    label_column: str = setting("", prepare=True, description="column of the label; empty: found by content")
    encoding: str = setting("", prepare=True, description="encoding of CSV files, such as latin-1 or gb18030; empty: detected")
    size: int = setting(0, prepare=True, ge=0, le=1024, description="side in pixels to which images are brought; 0: chosen from the images")
    channels: Literal["auto", "grey", "rgb"] = setting("auto", prepare=True, description="auto: rgb as soon as one image has colour")
    validation_share: float = setting(
        0.1, prepare=True, gt=0, lt=0.5, description="share of the training data kept for validation, where no such split is given"
    )
    test_share: float = setting(
        0.1, prepare=True, gt=0, lt=0.5, description="share of the data kept for the test, where no such split is given"
    )
    split_seed: int = setting(0, prepare=True, ge=0, description="fixes the splits")
    tolerance: float = setting(
        0.05, prepare=True, ge=0, le=1, description="share of unusable images past which the run is refused before training"
    )
    backbone: str = Field(
        default="",
        description="what to start from: '' our network for small images; the folder of a checkpoint of ours; "
        "or a model of transformers: owner/name, a local folder, config:resnet for random weights",
    )
    width: int = Field(default=32, ge=4, le=256, description="channels of the first stage of our network")
    flip: Literal["auto", "yes", "no"] = Field(
        default="auto", description="mirror images in training; auto: colour images only, since digits and letters have a handedness"
    )
    shift: float = Field(default=0.07, ge=0, lt=0.5, description="training moves images by up to this share of the side")
    colour: float = Field(default=0.0, ge=0, le=1, description="strength of colour jitter in training; colour images only")
    erase: float = Field(default=0.25, ge=0, lt=1, description="side of the square that training blanks, as a share of the image's; 0: off")
    policy: Literal["none", "trivial", "rand"] = Field(default="none", description="automatic augmentation: TrivialAugment or RandAugment")

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
    """Names the class of an image."""

    name: ClassVar[str] = "image_classification"

    dropout: float = Field(default=0.0, ge=0, lt=1, description="before the head")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="probability spread over the other classes")
    mixup: float = Field(default=0.0, ge=0, description="alpha of mixup's Beta distribution; 0: off")
    mirror_average: bool = Field(
        default=False, description="answer with the average over the image and its mirror image: a little better, twice the work"
    )
    cutmix: float = Field(default=0.0, ge=0, description="alpha of CutMix's Beta distribution; 0: off")
    student: int = Field(
        default=0,
        ge=0,
        le=256,
        description="width of a student, a network of ours that is also taught by the trained one; a candidate like any other; 0: none",
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
        from usecases.image_classification.scores import tallies

        return tallies(predict, self.examples(folder, split))

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
