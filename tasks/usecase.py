"""The contract between a vertical and everything else: a `UseCase` is a value that knows what only its vertical knows."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from tasks.errors import BundleError

if TYPE_CHECKING:
    from torch import Tensor, nn

Arrays = dict[str, np.ndarray]
"""Named arrays that share their first axis, the batch."""
Predict = Callable[[Arrays], Arrays]
"""A torch module, an ONNX graph or a live server, seen as a function from inputs to outputs, always with a batch axis."""
Say = Callable[[str], None]
"""Shows people what a long step is at; a newer word takes the place of the one before."""
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Tallies:
    """A score taken apart: what each example adds to it, and how the score is made of that.

    `counts` is float64 [N, K]; `value` takes means of it, [..., K], to scores, [...]: for accuracy K is 1 and the score the mean itself,
    for F1 the counts are hits, given and right, and so on. So samples of the examples can be scored without asking the model again.
    """

    counts: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]


def mean_of(means: np.ndarray) -> np.ndarray:
    """The `value` of a score that is a mean over the examples."""
    return means[..., 0]


Takes = Literal["image", "text", "history", "json"]
"""What a person sends: the bytes of an image file, a text, a history of items, or any other value of JSON."""
TRUSTED_PACKAGES = ("usecases.", "tasks.", "tests.")


def silently(word: str) -> None:
    """Where nobody looks."""


class Record(BaseModel):
    """A small immutable value. A misspelt field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def write_typed(record: Record) -> dict[str, Any]:
    """The record's fields beside the name of its class, so that it comes back as what it was."""
    return {"type": f"{type(record).__module__}:{type(record).__qualname__}", **record.model_dump(mode="json")}


def read_typed(written: object) -> Record:
    """The inverse of `write_typed`.

    Raises:
        BundleError: the class is unknown, no record, or lives outside the packages that are trusted.
    """
    if isinstance(written, Record):
        return written
    if not isinstance(written, Mapping) or not isinstance(written.get("type"), str):
        raise BundleError(f"This record does not name its class: {written!r:.200}")
    module_name, _, class_name = written["type"].partition(":")
    if not module_name.startswith(TRUSTED_PACKAGES):
        raise BundleError(f"The record names the class {written['type']!r}, which is not one of ours: not read.")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise BundleError(f"The record names the class {written['type']!r}, which this version does not have.") from error
    if not (isinstance(found, type) and issubclass(found, Record)):
        raise BundleError(f"The record names {written['type']!r}, which is no record.")
    return found.model_validate({name: value for name, value in written.items() if name != "type"})


class Examples(Protocol):
    """One split of a data set, read from disk as it is asked for.

    Where examples vary in length, an attribute `lengths`, int64 [N], brings similar ones into one batch of training.
    """

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Arrays:
        """The examples at `indices` (int64, [B]): inputs and targets by name, each with B rows."""
        ...


class Codec(Protocol):
    """Between what a person sends and what the network takes. NumPy only: it runs in the server."""

    takes: ClassVar[Takes]

    @property
    def padding(self) -> Mapping[str, int]:
        """By input, what fills the second axis of shorter requests that are run with longer ones; their answers are the same. Empty: none is."""
        ...

    def read(self, argument: str) -> Any:
        """One request from a command line argument: a path, a text."""
        ...

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """Requests to the network's inputs. Raises `BundleError` in words for one that cannot be understood."""
        ...

    def decode(self, outputs: Arrays, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """The network's outputs to one answer for each of the requests they were made for, ready for JSON."""
        ...


class UseCase(Record, ABC):
    """A vertical: its fields are its settings, its methods what only it knows.

    Imports of torch belong inside the methods: flows and servers import this class and must stay light.
    """

    name: ClassVar[str]
    """Its name in folders and reports, such as `image_classification`."""
    monitor: ClassVar[str]
    """The score (higher is better) that early stopping watches and that the budget of quality is about."""

    def settings(self) -> dict[str, Any]:
        """The settings beside the name of the class, ready for JSON."""
        return write_typed(self)

    @classmethod
    def package(cls) -> str:
        """The package of the vertical, whose source decides whether earlier results are stale."""
        return cls.__module__

    # -- data -----------------------------------------------------------------------------------------------------
    @abstractmethod
    def data_digest(self) -> str:
        """A digest of the settings that `prepare` reads and of the data behind them (paths, sizes and times of files)."""

    @abstractmethod
    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        """Read, check and split the data into `folder`; return its card (see `tasks.artifacts.Dataset.card`).

        `folder/assets/` holds what a request needs to be understood (labels, normalisation, a tokenizer). It travels
        with every checkpoint and bundle. Everything else in `folder` is the vertical's own business.

        Raises:
            DataError: with the file, the reason and what to do.
        """

    def settled(self, card: dict[str, Any]) -> UseCase:
        """What these settings stand for now that the data are known by their card; by default what they say."""
        return self

    @abstractmethod
    def examples(self, folder: Path, split: Split) -> Examples:
        """One split of what `prepare` wrote."""

    def calibration_inputs(self, folder: Path, rows: np.ndarray) -> Arrays:
        """The network's inputs, as requests would bring them, of training examples (int64 [B])."""
        batch = self.examples(folder, "train").batch(rows)
        return {name: batch[name] for name in self.input_names}

    # -- model ----------------------------------------------------------------------------------------------------
    @abstractmethod
    def network(self, assets: Path) -> nn.Module:
        """A fresh network. It has `layers()`, earliest first, for freezing and layer-wise learning rates."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The training loss of one batch (augmentation included), a scalar."""

    def pretraining(self) -> UseCase | None:
        """The broad task to pretrain the backbone on, itself a use case over the same data; None: there is none."""
        return None

    def focus(self, folder: Path) -> np.ndarray | None:
        """The examples of the training split that the network is to be best at in the end, int64 [N]; None: all alike."""
        return None

    def baselines(self) -> dict[str, UseCase]:
        """By name, use cases over the same data whose networks are computed, not trained: what a trained one must beat."""
        return {}

    def solve(self, network: nn.Module, folder: Path) -> None:
        """Fill in the network of a baseline from the training split of a prepared data set."""
        raise NotImplementedError(f"{self.name} is trained, not computed")

    def smaller(self) -> UseCase | None:
        """The settings of a student of about half the size, to be taught by this one's network; None: there is none."""
        return None

    def approximate(self, assets: Path) -> UseCase | None:
        """The same network behind a quicker, approximate way to its answers; None: there is none, or it would not pay."""
        return None

    def agreement(self, found: Arrays, expected: Arrays) -> dict[str, float]:
        """How far a compressed model's outputs are the full one's for the same inputs, by the field's names; none by default."""
        return {}

    def logits(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What a student and its teacher can be compared by: scores of classes [N, C], and the right class [N].

        Random draws (augmentation, sampling) come before the network's own, so that two networks can see the same.
        """
        raise NotImplementedError(f"{self.name} cannot be distilled")

    def taught_loss(self, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float) -> Tensor:
        """A student's training loss: a part `weight` of it is the distance to the teacher's opinion of the same examples."""
        from tasks.compression.distillation import mixed_loss

        return mixed_loss(self, student, teacher, batch, weight, temperature)

    def hidden_layers(self, network: nn.Module) -> list[nn.Module]:
        """Layers whose outputs a student may learn from its teacher, earliest first: [B, L, D], [B, D] or [B, D, H, W]; by default none."""
        return []

    def attention_layers(self, network: nn.Module) -> list[nn.Module]:
        """Layers whose `weights`, of the same arguments as a call, are what each place looks at, [B, heads, Q, L]; by default none."""
        return []

    def known(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor | None:
        """Which places of hidden states [B, L, D] are no padding, bool [B, L]; None: all of them."""
        return None

    def inherit(self, student: nn.Module, teacher: nn.Module) -> None:
        """Start a student from what it can take over of its teacher's weights; by default it starts afresh."""
        return

    def explain(self, predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
        """Why the answer to a request is what it is, ready for JSON. Loads neither torch nor transformers.

        Raises:
            BundleError: this vertical does not explain.
        """
        raise BundleError(f"A model of {self.name} does not explain its answers.")

    def attributions(self, network: nn.Module, folder: Path) -> list[dict[str, Any]]:
        """What the trained network itself tells of texts or images of the test split, in torch: blocks for the report; none by default."""
        return []

    def finish(self, network: nn.Module, predict: Predict, folder: Path) -> None:
        """After the last step, on the weights that will be kept: for instance fit a temperature on validation."""
        return

    def predictor(self, network: nn.Module) -> nn.Module:
        """The module to be exported: takes the inputs of `input_names` in order, returns a tensor or tuple as `output_names`."""
        return network

    input_names: ClassVar[tuple[str, ...]]
    output_names: ClassVar[tuple[str, ...]]
    variable_axes: ClassVar[tuple[str, ...]] = ()
    """Names of the axes after the first, in this order for every input, whose size may differ from batch to batch."""

    # -- quality --------------------------------------------------------------------------------------------------
    @abstractmethod
    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        """Scores of a predictor on a split, by the field's names; `monitor` is one of them."""

    def tallies(self, predict: Predict, folder: Path, split: Split) -> Tallies | None:
        """The monitored score taken apart by examples, so that two models can be told from noise; None where it cannot be."""
        return None

    # -- service --------------------------------------------------------------------------------------------------
    @abstractmethod
    def codec(self, assets: Path) -> Codec:
        """Loads neither torch nor transformers."""

    @abstractmethod
    def example_request(self, folder: Path) -> Path:
        """One real example from the data as a file that a person could send."""

    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        """What the report shows of the chosen model: plain JSON that this vertical's report section knows to draw."""
        return {}


def _as_usecase(written: object) -> object:
    return written if isinstance(written, UseCase) else read_typed(written)


AnyUseCase = Annotated[UseCase, BeforeValidator(_as_usecase), PlainSerializer(write_typed)]
"""A field that holds any vertical and writes its class beside its fields."""
