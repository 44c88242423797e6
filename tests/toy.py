"""A use case small enough to read at once: it stands in for every vertical in the tests of the tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from tasks.contract.blocks import AnswerBlock, probability_bars
from tasks.contract.capabilities import (
    Adaptable,
    Computed,
    Distillable,
    Explainable,
    HasBaselines,
    HasHiddenStates,
    HasStatistics,
    Pretrainable,
)
from tasks.contract.codec import Codec, Takes
from tasks.contract.errors import BundleError
from tasks.contract.statistics import Statistics, mean_of
from tasks.contract.types import Arrays, Predict, Say, Split, silently
from tasks.contract.usecase import Examples, UseCase, setting
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from tasks.training.learner import Learner

EAST = 1.0
SIZES: dict[Split, int] = {"train": 256, "validation": 64, "test": 64}


class Points:
    def __init__(self, folder: Path) -> None:
        self.point, self.label = np.load(folder / "point.npy"), np.load(folder / "label.npy")

    def __len__(self) -> int:
        return len(self.label)

    def batch(self, indices: np.ndarray) -> Arrays:
        return {"point": self.point[indices], "label": self.label[indices]}


class NumbersCodec:
    takes: ClassVar[Takes] = "json"
    padding: Mapping[str, int] = {}

    def read(self, argument: str) -> list[float]:
        return json.loads(Path(argument).read_text())

    def encode(self, requests: Any) -> Arrays:
        try:
            return {"point": np.array(requests, dtype=np.float32).reshape(len(requests), 2)}
        except (TypeError, ValueError, OverflowError):
            raise BundleError(f"A request is two numbers, such as [0.1, 0.2], not {requests!r:.100}.") from None

    def decode(self, outputs: Arrays, requests: Any) -> list[dict[str, Any]]:
        return [{"label": "ab"[row.argmax()], "probability": float(row.max())} for row in outputs["probabilities"]]

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        return [probability_bars(answer["label"], [(answer["label"], answer["probability"])])]


class ToyUseCase(UseCase, Pretrainable, Adaptable, HasBaselines, Computed, Distillable, HasHiddenStates):
    """Classifies points: inside or outside of a circle."""

    name: ClassVar[str] = "toy"
    seed: int = setting(0, prepare=True, description="seed of the points")
    hidden: int = Field(default=32, description="width of the network")
    depth: int = Field(default=1, description="hidden layers")
    fault: str = Field(default="", description="error in the loss: raise, nan, memory, words or hang")
    east: bool = Field(default=False, description="whether the points in the east are the focus of adaptation")
    slow: float = Field(default=0.0, description="seconds per step")

    @property
    def monitor(self) -> str:
        return "accuracy"

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("point",)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("probabilities",)

    def data_digest(self) -> str:
        return f"toy-{self.seed}"

    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        random = np.random.default_rng(self.seed)
        for split, size in SIZES.items():
            (folder / split).mkdir(parents=True, exist_ok=True)
            point = random.normal(size=(size, 2)).astype(np.float32)
            np.save(folder / split / "point.npy", point)
            np.save(folder / split / "label.npy", (np.square(point).sum(1) > 1.4).astype(np.int64))
        (folder / "assets").mkdir(exist_ok=True)
        (folder / "assets" / "labels.json").write_text('["a", "b"]')
        (folder / "example.json").write_text("[0.1, 0.2]")
        return {"layout": "made up", "sizes": dict(SIZES), "labels": ["a", "b"], "counts": {}, "findings": []}

    def examples(self, folder: Path, split: Split) -> Examples:
        return Points(folder / split)

    def network(self, assets: Path) -> Any:
        from tests.toy_network import ToyNetwork

        return ToyNetwork(self.hidden, self.depth)

    def predictor(self, network: Any) -> Any:
        from tests.toy_network import Probabilities

        return Probabilities(network)

    def loss(self, network: Any, batch: Any) -> Any:
        from tests.toy_network import loss

        return loss(self, network, batch)

    def student_usecase(self) -> UseCase | None:
        return ToyUseCase(seed=self.seed, hidden=self.hidden // 2)

    def logits(self, network: Any, batch: Any) -> Any:
        return network(batch["point"]), batch["label"]

    def hidden_layers(self, network: Any) -> Any:
        return [network.backbone]

    def focus(self, folder: Path) -> np.ndarray | None:
        return np.flatnonzero(np.load(folder / "train" / "point.npy")[:, 0] > EAST) if self.east else None

    def baselines(self) -> dict[str, UseCase]:
        return {"majority": ToyUseCase(seed=self.seed, hidden=1)}

    def fit(self, network: Any, folder: Path) -> None:
        network.head.weight.zero_()
        network.head.bias[:] = network.head.bias.new_tensor(np.bincount(np.load(folder / "train" / "label.npy")))

    def pretraining(self) -> UseCase | None:
        return ToyUseCase(seed=self.seed, hidden=self.hidden)

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        examples = self.examples(folder, split).batch(np.arange(SIZES[split]))
        label = examples.pop("label")
        return {"accuracy": float((predict(examples)["probabilities"].argmax(1) == label).mean())}

    def codec(self, assets: Path) -> Codec:
        return NumbersCodec()

    def example_request(self, folder: Path) -> Path:
        return folder / "example.json"


class CountedToy(ToyUseCase, HasStatistics):
    """The toy with per-example statistics."""

    def statistics(self, predict: Predict, folder: Path, split: Split) -> Statistics | None:
        examples = self.examples(folder, split).batch(np.arange(SIZES[split]))
        label = examples.pop("label")
        return Statistics((predict(examples)["probabilities"].argmax(1) == label).astype(np.float64)[:, None], mean_of)


class ExplainingToy(ToyUseCase, Explainable):
    """The toy with explanations, which run 1001 rows; the explanation of [9, 9] never ends."""

    def explain(self, predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
        found = predict({"point": np.zeros((1001, 2), np.float32)})["probabilities"]
        while request == [9, 9]:
            predict({"point": np.zeros((1, 2), np.float32)})
        return {"rows": len(found)}


STEP_SECONDS = 1 / 128


class StepClock(Technique):
    """Counts the time of a fit in steps, so that it does not depend on the load of the machine."""

    def before(self, learner: Learner) -> None:
        learner.seconds = lambda: STEP_SECONDS * learner.step
