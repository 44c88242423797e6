"""The interface of a head of the network, from its labels to the drawing of its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from tasks.contract.blocks import AnswerBlock
from tasks.contract.findings import Findings
from tasks.contract.types import Arrays, Predict, Say
from usecases.driving_perception.frames import Frame, Source
from usecases.driving_perception.scenes import StoredScenes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from usecases.driving_perception import DrivingPerception
    from usecases.driving_perception.network import RoadNetwork
    from usecases.driving_perception.window import View

Predictions = tuple["Tensor", ...]
"""The outputs of the network of a head, each [N, ...]."""


@dataclass(frozen=True)
class Reading:
    """The state of reading a source frame by frame; `state` belongs to the head, for instance for counts."""

    source: Source
    findings: Findings
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameInfo:
    """A usable frame with its source, the width and height of its image, and its label for each head by the name of the head.

    `content` is a digest of the pixels. `stretch` names the group of successive frames that are assigned to one split together; it is empty
    where splits are given.
    """

    frame: Frame
    source: Source
    size: tuple[int, int]
    labels: dict[str, Any]
    content: str
    stretch: str = ""


@dataclass(frozen=True)
class Plan:
    """Decisions before arrays are written: the part of each head, by its name, and the size of the network's images in pixels.

    `ratios` are the aspect ratios (width / height) of the images; empty for crops, which have any shape.
    """

    parts: dict[str, dict[str, Any]]
    width: int
    height: int
    ratios: list[float]


class Evaluator(ABC):
    """Compares the outputs of a head with the labels of a split, frame by frame, and computes its scores."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        """Numbers of the frames that were added, in their order."""

    @abstractmethod
    def add(self, row: int, truth: Arrays, answers: Arrays) -> None:
        """Add one frame.

        Args:
            row: its number in the split.
            truth: its arrays in the prepared data, without a batch axis.
            answers: the outputs of the graph, without a batch axis.
        """

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """The head's metric and further scores, by name."""

    def counts(self) -> np.ndarray | None:
        """Per-example statistics of the head's metric, [N, K]; None if it is no function of means over frames."""
        return None

    def value(self, means: np.ndarray) -> np.ndarray:
        """The metric, [...], computed from means of the statistics, [..., K]."""
        raise NotImplementedError


class Head(ABC):
    """One task of the network. A head has no state: all that depends on the data set is in its part of the card.

    A new head is a module with a subclass and a row in `heads.table`. The server imports this module and those of the heads without torch:
    methods that need torch import it themselves.
    """

    name: ClassVar[str]
    """Its name in the setting `heads`."""
    outputs: ClassVar[tuple[str, ...]]
    """Its outputs in the exported graph, in their order."""
    arrays: ClassVar[tuple[str, ...]]
    """The arrays that `write` writes; a batch that contains the first has labels of this head."""
    metric: ClassVar[str]
    """The score that a network with this head alone is selected by; higher is better."""
    scenario_metrics: ClassVar[tuple[str, ...]] = ()
    """Further scores that are reported for each scenario."""
    inputs: ClassVar[tuple[str, ...]] = ()
    """The conditioning inputs (see `scenes.CONDITIONING`) that the network of this head takes in addition to the features."""
    dense: ClassVar[bool] = False
    """Whether it predicts something for every position: it takes the features of the decoder, and augmentation crops its labels too."""
    crops: ClassVar[bool] = False
    """Whether its images are crops around one object: small, of any aspect ratio, and with different lighting."""
    max_width: ClassVar[int] = 512
    """Width in pixels that wider images are reduced to, unless another head needs more."""

    # -- labels ---------------------------------------------------------------------------------------------------
    @abstractmethod
    def label(self, frame: Frame, picture: Image.Image, reading: Reading) -> Any | None:
        """The label of a frame for this head.

        Args:
            frame: as its reader found it.
            picture: its decoded image.
            reading: the source, where to note findings, and this head's state.

        Returns:
            Any value, which `plan` and `write` read; None without a label.

        Raises:
            UnusableImage: the label is damaged, and the frame is set aside.
        """

    def finish(self, reading: Reading) -> None:
        """Called after all frames of a source were read, to note findings about the whole source."""
        return

    def stratum(self, label: Any) -> str:
        """The stratum of a frame for stratified splits, such as its class; empty: its scenario."""
        return ""

    def plan(self, settings: DrivingPerception, frames: Sequence[FrameInfo], sources: Sequence[Source]) -> dict[str, Any]:
        """Decide what has to be known before arrays are written, such as names of classes.

        Args:
            settings: of the use case.
            frames: all frames with a label for this head.
            sources: all sources.

        Returns:
            The head's part of the plan, see `Plan.parts`.

        Raises:
            DataError: the head cannot learn from these frames.
        """
        return {}

    @abstractmethod
    def write(self, folder: Path, frames: Sequence[FrameInfo], plan: Plan, settings: DrivingPerception, say: Say) -> None:
        """Write `arrays` of one split as .npy files, with a row for each frame, with or without a label.

        Args:
            folder: of the split.
            frames: of the split.
            plan: of all heads.
            settings: of the use case.
            say: called with the progress.
        """

    def card(self, part: dict[str, Any], folder: Path, findings: Findings) -> dict[str, Any]:
        """The head's part of `assets/scene.json`, by default its part of the plan.

        Args:
            part: its part of the plan.
            folder: of the data set, with the arrays of all splits.
            findings: where to note what is found.

        Returns:
            Values that are ready for JSON, by names that no other head uses.
        """
        return part

    def names(self, card: dict[str, Any]) -> list[str]:
        """Names of its classes, or of the values that it predicts."""
        return []

    def facts(self, card: dict[str, Any], frames: Sequence[FrameInfo]) -> dict[str, str]:
        """Rows of the report about its labels; `frames` are all frames with a label."""
        return {}

    # -- network --------------------------------------------------------------------------------------------------
    def weight(self, settings: DrivingPerception) -> float:
        """Weight of its loss in the sum over heads."""
        return 1.0

    @abstractmethod
    def network(self, features: int, card: dict[str, Any], settings: DrivingPerception) -> nn.Module:
        """A fresh network from features [N, features, h, w] to predictions.

        Args:
            features: channels of the features.
            card: `assets/scene.json`.
            settings: of the use case.

        Returns:
            A module. That of a dense head is also called with the size (height, width) of the images; that of another head with those of
            `inputs` that are given, by name.
        """

    def keeps_view(self, batch: dict[str, Tensor]) -> Tensor | None:
        """Frames that augmentation must not crop, scale or shift, bool [N]; None: there are none."""
        return None

    def are_crops(self, batch: dict[str, Tensor]) -> Tensor | None:
        """Frames that are crops, bool [N]: augmentation never flips them, but rotates, stretches and blurs them; None: there are none."""
        return None

    def augment(self, batch: dict[str, Tensor], view: View) -> dict[str, Tensor]:
        """Labels that change with the windows of the images, by the names of their arrays; by default none changes."""
        return {}

    @abstractmethod
    def loss(self, network: Any, predictions: Predictions, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        """The loss of this head.

        Args:
            network: of this head.
            predictions: its predictions for the batch.
            batch: augmented images and labels.
            settings: of the use case.

        Returns:
            A scalar; 0 for a batch without labels of this head.
        """

    def distance(self, predictions: Predictions, teacher: Predictions, temperature: float) -> Tensor:
        """The distillation loss of this head, by default the mean squared error.

        Args:
            predictions: of the student.
            teacher: the teacher's predictions for the same frames.
            temperature: that predictions are softened by; above 1, small differences count more.

        Returns:
            A scalar.
        """
        import torch

        return torch.stack([(one - other).square().mean() for one, other in zip(predictions, teacher, strict=True)]).sum()

    def answers(self, network: Any, predictions: Predictions) -> Predictions:
        """The tensors of `outputs`, by default the predictions themselves."""
        return predictions

    def calibrate(self, network: Any, batches: Iterable[tuple[Arrays, Predictions]]) -> None:
        """Calibrate the confidence in place on labels and predictions of the validation split; by default nothing is done."""
        return

    # -- quality --------------------------------------------------------------------------------------------------
    @abstractmethod
    def evaluator(self, scenes: StoredScenes, card: dict[str, Any]) -> Evaluator:
        """A fresh evaluator of a split."""

    def figures(self, evaluator: Any, predict: Predict, scenes: StoredScenes, card: dict[str, Any]) -> list[dict[str, Any]]:
        """Blocks of the report about the test split, see `tasks.contract.blocks`; by default none.

        Args:
            evaluator: of this head, with all frames of the test split.
            predict: a predictor.
            scenes: the test split.
            card: `assets/scene.json`.

        Returns:
            The blocks.
        """
        return []

    def evidence(self, network: Any, predictions: Predictions, number: int) -> Tensor:
        """The scalar of each image that attributions explain, by default the first output for a class.

        Args:
            network: of this head.
            predictions: its predictions for the images.
            number: of a class or value.

        Returns:
            [N].
        """
        return self.answers(network, predictions)[0][:, number]

    def attributions(self, network: RoadNetwork, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any] | None:
        """A gallery of attributions of this head for images of a split.

        Args:
            network: in evaluation mode.
            scenes: the split.
            card: `assets/scene.json`.

        Returns:
            A block of kind gallery; None (the default): nothing is shown.
        """
        return None

    # -- service --------------------------------------------------------------------------------------------------
    @abstractmethod
    def answer(self, outputs: Arrays, picture: Image.Image, card: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The answer of this head to a request.

        Args:
            outputs: of the graph, without a batch axis.
            picture: the image of the request.
            card: `assets/scene.json`.

        Returns:
            Its fields of the answer, ready for JSON, and reasons to doubt it, a sentence each.
        """

    def blocks(self, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
        """Blocks that show its fields of an answer, and its images in the answer's `explanation` if there is one; by default none."""
        return []

    def advice(self, outputs: Arrays, answer: dict[str, Any], picture: Image.Image, card: dict[str, Any]) -> dict[str, Any]:
        """Arguments of `advice.advise` that this head contributes; by default none.

        Args:
            outputs: of the graph, without a batch axis.
            answer: its fields of the answer.
            picture: the image of the request.
            card: `assets/scene.json`.

        Returns:
            The arguments by name.
        """
        return {}

    def draw(self, picture: Image.Image, answer: dict[str, Any], card: dict[str, Any]) -> Image.Image:
        """Draw the answer over the image; by default nothing is drawn.

        Args:
            picture: RGB; it may be changed in place.
            answer: to the request.
            card: `assets/scene.json`.

        Returns:
            The image.
        """
        return picture

    def caption(self, answer: dict[str, Any]) -> str:
        """Its part of the caption of a drawn image; empty: none."""
        return ""

    def explanations(self, outputs: Arrays, size: tuple[int, int]) -> dict[str, Image.Image]:
        """Further images of a size (width, height) that explain an answer, by name; outputs have no batch axis."""
        return {}

    def change(self, answer: dict[str, Any], before: dict[str, Any]) -> float | None:
        """Share of the answer that differs from that of the preceding frame, in [0, 1]; None: not measured."""
        return None
