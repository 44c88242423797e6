"""The use case: the interface between a vertical and the rest of the project."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, Self

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer

from tasks.contract.capabilities import Distillable
from tasks.contract.codec import Codec
from tasks.contract.errors import ContractError
from tasks.contract.records import Settings, read_typed, write_typed
from tasks.contract.types import Arrays, Predict, Say, Split, silently

if TYPE_CHECKING:
    from torch import Tensor, nn


MARKERS = ("type", "format")  # keys that records write next to their fields


def setting(default: Any, *, description: str, prepare: bool = False, **rules: Any) -> Any:
    """A setting of a use case: a pydantic field with a description.

    Args:
        default: value of the setting if none is given.
        description: what the setting is, its unit, and what its special values mean; shown in help texts and forms.
        prepare: whether `UseCase.prepare` reads the setting. The data is prepared again only if such a setting changes.
        rules: further arguments of `pydantic.Field`, such as `ge=0`.

    Returns:
        The field, to be assigned to a class attribute.
    """
    return Field(default=default, description=description, json_schema_extra={"prepare": prepare}, **rules)


class Examples(Protocol):
    """One split of a data set, read from disk batch by batch.

    Examples of variable length may have an attribute `lengths`, int64 [N]: training then puts examples of similar length into one batch.
    """

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Arrays:
        """The examples at `indices` (int64 [B]): inputs and targets by name, each with B rows."""
        ...


class UseCase(Settings, ABC):
    """A vertical: its fields are its settings, its methods are its data, network, loss, score, requests and answers.

    The methods here are required. Optional features, such as pretraining or explanations, are capabilities: base classes of
    `tasks.contract.capabilities` that a use case inherits in addition. `tasks.checks.check_usecase` tests an implementation.

    Import torch inside the methods that need it: flows and servers import this class and must not load torch.
    """

    name: ClassVar[str]
    """Name in folders and reports, such as `image_classification`."""
    variable_axes: ClassVar[tuple[str, ...]] = ()
    """Names of the axes after the batch axis whose size may differ from batch to batch; the same for every input, in order."""

    @property
    @abstractmethod
    def monitor(self) -> str:
        """Name of the main score, one of those that `score` returns; higher is better. Early stopping and budgets use it."""

    @property
    @abstractmethod
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of the exported graph, in the order of the predictor's arguments."""

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs of the exported graph, in the order in which the predictor returns them."""

    # -- data -----------------------------------------------------------------------------------------------------
    @abstractmethod
    def data_digest(self) -> str:
        """A digest of the data that the settings refer to. The data is prepared again if it changes.

        For files it covers names, sizes and modification times, also behind links; for data on a hub, the revision.
        """

    def weights_digest(self) -> str:
        """A digest of the pretrained weights that the settings refer to; empty if there are none."""
        return ""

    @abstractmethod
    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        """Read, check and split the data, and write it to `folder`.

        `folder/assets/` gets the files that the codec and the network need (labels, normalisation, a tokenizer); they are copied into
        every checkpoint and bundle. The names and formats of all other files are up to the use case. Of the settings, `prepare` may read
        only those that are declared with `prepare=True`. The same data has to give the same files, byte for byte.

        Args:
            folder: an empty folder, or one with files of an attempt that was killed.
            say: shows a progress message.

        Returns:
            The data card (see `tasks.contract.artifacts.Dataset`).

        Raises:
            DataError: the data cannot be used; the message has the file, the reason and what to do.
        """

    @abstractmethod
    def examples(self, folder: Path, split: Split) -> Examples:
        """The examples of one split that `prepare` wrote to `folder`."""

    def calibration_inputs(self, folder: Path, rows: np.ndarray) -> Arrays:
        """Inputs of the network for calibration, encoded as those of requests are, without augmentation.

        Args:
            folder: the prepared data.
            rows: indices of training examples, int64 [B].

        Returns:
            Arrays by input name, each with B rows.
        """
        batch = self.examples(folder, "train").batch(rows)
        return {name: batch[name] for name in self.input_names}

    @abstractmethod
    def example_request(self, folder: Path) -> Path:
        """A file with one real example of the prepared data as a user would send it: `.json`, `.txt`, or an image."""

    # -- model ----------------------------------------------------------------------------------------------------
    @abstractmethod
    def network(self, assets: Path) -> nn.Module:
        """A new network with random or pretrained weights.

        It needs a method `layers()` that returns its modules from the input to the head, used by freezing, layer-wise learning rates,
        LoRA and low-rank factorisation.
        """

    @abstractmethod
    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The training loss of a batch, a scalar; augmentation belongs here.

        Draw random numbers from torch only, whose seed is set for each step: a fit that is resumed repeats them.
        """

    def predictor(self, network: nn.Module) -> nn.Module:
        """The module that is exported. It takes the inputs of `input_names` in order and returns the outputs of `output_names`.

        By default the network itself; override it to add steps such as softmax or a temperature.
        """
        return network

    # -- quality and serving --------------------------------------------------------------------------------------
    @abstractmethod
    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        """Scores of a predictor on one split.

        Args:
            predict: a torch module, an ONNX graph or a live server.
            folder: the prepared data.
            split: the split to score.

        Returns:
            Finite scores by their usual names, such as `accuracy` or `ndcg@10`; `monitor` is one of them.
        """

    @abstractmethod
    def codec(self, assets: Path) -> Codec:
        """The codec between requests and arrays. It must load neither torch nor transformers."""

    @classmethod
    def small(cls) -> Self:
        """The use case with sample data and settings that train in seconds, for `tasks.checks.check_usecase`."""
        return cls()

    # -- derived from the above -----------------------------------------------------------------------------------
    def settings(self) -> dict[str, Any]:
        """The settings and the name of the class, ready for JSON."""
        return write_typed(self)

    @classmethod
    def prepare_settings(cls) -> set[str]:
        """Names of the settings that `prepare` reads."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("prepare")}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check a use case when its class is defined, so that mistakes are found before a run.

        Raises:
            ContractError: the class breaks the contract; the message says what to write instead.
        """
        super().__pydantic_init_subclass__(**kwargs)
        where = f"The use case {cls.__module__}.{cls.__qualname__}"
        for name, field in cls.model_fields.items():
            if name in MARKERS:
                raise ContractError(
                    f"{where}: a setting cannot be called {name!r}, which records write their class and format by. Rename it."
                )
            if not field.description:
                raise ContractError(f"{where}: the setting {name!r} has no description. Write {name}: ... = setting(..., description=...).")
        if not cls.__abstractmethods__:
            _check_names(cls, where)
        compared = any(getattr(cls, method, None) is not getattr(Distillable, method) for method in ("logits", "distillation_loss"))
        if issubclass(cls, Distillable) and not cls.__abstractmethods__ and not compared:
            raise ContractError(f"{where} is Distillable: implement logits(network, batch) or distillation_loss(...).")
        if cls.__module__ == "__main__":
            raise ContractError(
                f"{where} is defined in a script. Move it to a module of its vertical's package: training runs in other processes, "
                "which import the class by its name."
            )


def _check_names(cls: type[UseCase], where: str) -> None:
    """Check what other processes, folders and reports call a use case by."""
    if "." in cls.__qualname__:
        raise ContractError(
            f"{where} is defined inside of a class or function. Move it to the top level of its module, to be imported by name."
        )
    name = getattr(cls, "name", None)
    if not isinstance(name, property) and not (isinstance(name, str) and name.isidentifier()):
        raise ContractError(f'{where}: name is {name!r}; letters, digits and underscores were expected: name: ClassVar[str] = "my_model".')
    if not (cls.__doc__ or "").strip():
        raise ContractError(f"{where} has no docstring. Write one; its first line is the summary in the README of each bundle.")


def _as_usecase(written: object) -> object:
    return written if isinstance(written, UseCase) else read_typed(written)


AnyUseCase = Annotated[UseCase, BeforeValidator(_as_usecase), PlainSerializer(write_typed)]
"""The type of a field that holds any use case; it is written to JSON with the name of its class."""
