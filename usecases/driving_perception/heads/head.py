"""What every head of the network provides, from the labels that it learns to the drawing of its answers."""

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
"""What the network of a head returns, each [N, ...]."""


@dataclass(frozen=True)
class Reading:
    """A source while its frames are read one after the other; `state` is a head's own, such as what it counts."""

    source: Source
    findings: Findings
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameInfo:
    """A frame that can be used, its source, the width and height of its picture, and by the name of each head what that can learn from it.

    `content` is a digest of the pixels. `stretch` names the successive frames that go to one split together, where splits are not given.
    """

    frame: Frame
    source: Source
    size: tuple[int, int]
    labels: dict[str, Any]
    content: str
    stretch: str = ""


@dataclass(frozen=True)
class Plan:
    """What is decided before arrays are written: the heads to learn, each head's own part, and the size of the network's images.

    `ratios` are those of width to height that pictures have; none for cut-outs, which have any shape.
    """

    parts: dict[str, dict[str, Any]]
    width: int
    height: int
    ratios: list[float]


class Judge(ABC):
    """Collects the frames of a split whose truth a head's answers are compared with."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        """The frames that were added, in their order."""

    @abstractmethod
    def add(self, row: int, truth: Arrays, answers: Arrays) -> None:
        """One frame: its labels and the outputs of the graph, without a batch axis."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """The head's metric and others, by the field's names."""

    def counts(self) -> np.ndarray | None:
        """Per-example statistics of the head's metric, [N, K]; None where it is no function of means over frames."""
        return None

    def value(self, means: np.ndarray) -> np.ndarray:
        """The metric, [...], of means of the statistics, [..., K]."""
        raise NotImplementedError


class Head(ABC):
    """One thing that the network learns. A head has no state: all that differs from data set to data set is in its part of the card.

    A new head is a file with a subclass and a row in `heads.table`. This module, and the modules of heads, are read by the server and
    load no torch: methods that need it import it themselves.
    """

    name: ClassVar[str]
    """Its name in the setting `heads`."""
    outputs: ClassVar[tuple[str, ...]]
    """Its outputs of the exported graph, in their order."""
    arrays: ClassVar[tuple[str, ...]]
    """The arrays that `write` makes; with the first it is recognised in a batch."""
    metric: ClassVar[str]
    """The score that a network with this head alone is chosen by; higher is better."""
    scenario_metrics: ClassVar[tuple[str, ...]] = ()
    """Further scores that are reported for each scenario."""
    inputs: ClassVar[tuple[str, ...]] = ()
    """Those of `scenes.TOLD` that the network of this head takes besides the features."""
    dense: ClassVar[bool] = False
    """Whether it predicts something for every place: its features are the decoder's, and its labels move with parts of a picture."""
    cut_outs: ClassVar[bool] = False
    """Whether its pictures are cut out around one thing: they are small, of any shape, and lit differently."""
    max_width: ClassVar[int] = 512
    """Pixels: wider pictures are reduced to that, where no other head needs more."""

    # -- labels ---------------------------------------------------------------------------------------------------
    @abstractmethod
    def label(self, frame: Frame, picture: Image.Image, reading: Reading) -> Any | None:
        """What this head can learn from a frame; None where that is not known.

        Raises:
            UnusableImage: what is known is damaged, and the frame is set aside.
        """

    def finish(self, reading: Reading) -> None:
        """All frames of a source were read: report what was counted on the way."""
        return

    def stratum(self, label: Any) -> str:
        """The kind of a frame, so that splits have as much of each; empty: its scenario decides."""
        return ""

    def plan(self, settings: DrivingPerception, frames: Sequence[FrameInfo], sources: Sequence[Source]) -> dict[str, Any]:
        """What is decided before anything is written, such as names of classes, of all frames that this head can learn from.

        Raises:
            DataError: the head cannot be learnt from them.
        """
        return {}

    @abstractmethod
    def write(self, folder: Path, frames: Sequence[FrameInfo], plan: Plan, settings: DrivingPerception, say: Say) -> None:
        """Write `arrays` of one split as .npy files into the folder of the split, with a row for each of the frames, known or not."""

    def card(self, part: dict[str, Any], folder: Path, findings: Findings) -> dict[str, Any]:
        """The head's part of `assets/scene.json`, of its part of the plan and the arrays that were written."""
        return part

    def names(self, card: dict[str, Any]) -> list[str]:
        """Names of its classes, or of its values."""
        return []

    def facts(self, card: dict[str, Any], frames: Sequence[FrameInfo]) -> dict[str, str]:
        """Rows about its labels in the report, of all frames that it can learn from."""
        return {}

    # -- network --------------------------------------------------------------------------------------------------
    def weight(self, settings: DrivingPerception) -> float:
        """Of its loss in the sum over heads."""
        return 1.0

    @abstractmethod
    def network(self, features: int, card: dict[str, Any], settings: DrivingPerception) -> nn.Module:
        """Features [N, features, h, w] to predictions; a dense head's takes the size (height, width) of the pictures, too, and others those of `inputs` that are known, by name."""

    def keeps_view(self, batch: dict[str, Tensor]) -> Tensor | None:
        """Frames that training must not cut, shrink or move, bool [N]; None: all may be."""
        return None

    def are_cut_outs(self, batch: dict[str, Tensor]) -> Tensor | None:
        """Frames that are cut-outs, bool [N]: training never mirrors them, but rotates, stretches and blurs them; None: none is."""
        return None

    def augment(self, batch: dict[str, Tensor], view: View) -> dict[str, Tensor]:
        """The labels that are others in the part of the pictures that training sees; by default they stay the same."""
        return {}

    @abstractmethod
    def loss(self, network: Any, predictions: Predictions, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        """A scalar; 0 where nothing is known of any frame."""

    def distance(self, predictions: Predictions, teacher: Predictions, temperature: float) -> Tensor:
        """How far predictions are from a teacher's of the same frames, a scalar; by default the mean squared error.

        A temperature above 1 makes small differences count for more.
        """
        import torch

        return torch.stack([(one - other).square().mean() for one, other in zip(predictions, teacher, strict=True)]).sum()

    def answers(self, network: Any, predictions: Predictions) -> Predictions:
        """The tensors of `outputs`; by default the predictions themselves."""
        return predictions

    def calibrate(self, network: Any, batches: Iterable[tuple[Arrays, Predictions]]) -> None:
        """Adjust the confidence of the answers on batches of labels and predictions of the validation split; by default nothing is."""
        return

    # -- quality --------------------------------------------------------------------------------------------------
    @abstractmethod
    def judge(self, scenes: StoredScenes, card: dict[str, Any]) -> Judge:
        """A fresh one for a split."""

    def figures(self, judge: Any, predict: Predict, scenes: StoredScenes, card: dict[str, Any]) -> list[dict[str, Any]]:
        """Blocks of the report about the test split; blocks as `tasks.reporting.facts.Facts` lists them."""
        return []

    def evidence(self, network: Any, predictions: Predictions, number: int) -> Tensor:
        """The one number for each picture, [N], that is explained: how much speaks for a class or value `number`."""
        return self.answers(network, predictions)[0][:, number]

    def attributions(self, network: RoadNetwork, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any] | None:
        """A gallery of what the network looks at in pictures of a split; None: nothing is shown."""
        return None

    # -- service --------------------------------------------------------------------------------------------------
    @abstractmethod
    def answer(self, outputs: Arrays, picture: Image.Image, card: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Its fields of the answer, ready for JSON, and what speaks against trusting it; outputs have no batch axis."""

    def blocks(self, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
        """What a person sees of its fields of an answer, and of its pictures in the answer's `explanation` where it has one."""
        return []

    def advice(self, outputs: Arrays, answer: dict[str, Any], picture: Image.Image, card: dict[str, Any]) -> dict[str, Any]:
        """Arguments of `advice.advise` that this head knows."""
        return {}

    def draw(self, picture: Image.Image, answer: dict[str, Any], card: dict[str, Any]) -> Image.Image:
        """The picture (RGB, which may be changed) with the answer drawn over it."""
        return picture

    def caption(self, answer: dict[str, Any]) -> str:
        """Its words of the caption of a drawn picture."""
        return ""

    def explanations(self, outputs: Arrays, size: tuple[int, int]) -> dict[str, Image.Image]:
        """Further pictures of a size (width, height) that explain an answer, by name; outputs have no batch axis."""
        return {}

    def change(self, answer: dict[str, Any], before: dict[str, Any]) -> float | None:
        """Share of the answer that is another one than for the frame before, [0, 1]; None where that is not measured."""
        return None
