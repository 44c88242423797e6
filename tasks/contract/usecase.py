"""The contract between a vertical and everything else: a `UseCase` is a value that knows what only its vertical knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, Self

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer

from tasks.contract.capabilities import Distillable
from tasks.contract.codec import Codec
from tasks.contract.errors import ContractError
from tasks.contract.records import Record, read_typed, write_typed
from tasks.contract.types import Arrays, Predict, Say, Split, silently

if TYPE_CHECKING:
    from torch import Tensor, nn


def setting(default: Any, *, description: str, prepare: bool = False, **rules: Any) -> Any:
    """A field of a use case.

    Args:
        default: its value where none is given.
        description: what it is, its unit, and what its special values mean; help and forms show it.
        prepare: whether `prepare` reads it. Only a change of such a setting makes prepared data stale.
        rules: of pydantic's `Field`, such as `ge=0`.
    """
    return Field(default=default, description=description, json_schema_extra={"prepare": prepare}, **rules)


class Examples(Protocol):
    """One split of a data set, read from disk as it is asked for.

    Where examples vary in length, an attribute `lengths`, int64 [N], brings similar ones into one batch of training.
    """

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Arrays:
        """The examples at `indices` (int64, [B]): inputs and targets by name, each with B rows."""
        ...


class UseCase(Record, ABC):
    """A vertical: its fields are its settings, its methods what only it knows. What else it offers is in `tasks.contract.capabilities`.

    Imports of torch belong inside the methods: flows and servers import this class and must stay light.
    """

    name: ClassVar[str]
    """Its name in folders and reports, such as `image_classification`."""
    variable_axes: ClassVar[tuple[str, ...]] = ()
    """Names of the axes after the first, in this order for every input, whose size may differ from batch to batch."""

    @property
    @abstractmethod
    def monitor(self) -> str:
        """The score (higher is better) that early stopping watches and that the budget of quality is about."""

    @property
    @abstractmethod
    def input_names(self) -> tuple[str, ...]:
        """The inputs of the exported graph, in the order in which the predictor takes them."""

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """The outputs of the exported graph, in the order in which the predictor returns them."""

    # -- data -----------------------------------------------------------------------------------------------------
    @abstractmethod
    def data_digest(self) -> str:
        """A digest of the data behind the settings: names, sizes and times of files, links followed; revisions of what lies on a hub."""

    def weights_digest(self) -> str:
        """A digest of pretrained weights that the settings name; empty: none."""
        return ""

    @abstractmethod
    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        """Read, check and split the data into `folder`; return its card (see `tasks.contract.artifacts.Dataset.card`).

        `folder/assets/` holds what a request needs to be understood (labels, normalisation, a tokenizer). It travels
        with every checkpoint and bundle. Everything else in `folder` is the vertical's own business.
        Of the settings it reads only those that are declared with `prepare=True`.

        Raises:
            DataError: with the file, the reason and what to do.
        """

    @abstractmethod
    def examples(self, folder: Path, split: Split) -> Examples:
        """One split of what `prepare` wrote."""

    def calibration_inputs(self, folder: Path, rows: np.ndarray) -> Arrays:
        """The network's inputs, as requests would bring them, of training examples (int64 [B])."""
        batch = self.examples(folder, "train").batch(rows)
        return {name: batch[name] for name in self.input_names}

    @abstractmethod
    def example_request(self, folder: Path) -> Path:
        """One real example from the data as a file that a person could send: `.json`, `.txt`, or an image with its own suffix."""

    # -- model ----------------------------------------------------------------------------------------------------
    @abstractmethod
    def network(self, assets: Path) -> nn.Module:
        """A fresh network. It has `layers()`, earliest first, for freezing and layer-wise learning rates."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The training loss of one batch (augmentation included), a scalar."""

    def predictor(self, network: nn.Module) -> nn.Module:
        """The module to be exported: takes the inputs of `input_names` in order, returns a tensor or tuple as `output_names`."""
        return network

    # -- quality and service --------------------------------------------------------------------------------------
    @abstractmethod
    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        """Scores of a predictor on a split, by the field's names; `monitor` is one of them."""

    @abstractmethod
    def codec(self, assets: Path) -> Codec:
        """Between requests and tensors. Loads neither torch nor transformers."""

    @classmethod
    def small(cls) -> Self:
        """With settings that make it quick to train, for `tasks.checks.check_usecase`; the data is its own sample."""
        return cls()

    # -- what follows from the above ------------------------------------------------------------------------------
    def settings(self) -> dict[str, Any]:
        """The settings and the name of the class, ready for JSON."""
        return write_typed(self)

    @classmethod
    def prepare_settings(cls) -> set[str]:
        """The names of the settings that `prepare` reads."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("prepare")}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a use case that would fail later, or silently be wrong.

        Raises:
            ContractError: with the class, what is wrong and what to write instead.
        """
        super().__pydantic_init_subclass__(**kwargs)
        where = f"The use case {cls.__module__}.{cls.__qualname__}"
        for name, field in cls.model_fields.items():
            if not field.description:
                raise ContractError(f"{where}: the setting {name!r} has no description. Write {name}: ... = setting(..., description=...).")
        compared = any(getattr(cls, method, None) is not getattr(Distillable, method) for method in ("logits", "distillation_loss"))
        if issubclass(cls, Distillable) and not cls.__abstractmethods__ and not compared:
            raise ContractError(f"{where} is Distillable: implement logits(network, batch) or distillation_loss(...).")
        if cls.__module__ == "__main__":
            raise ContractError(
                f"{where} is defined in a script. Move it to a module of its vertical's package: training runs in other processes, "
                "which import the class by its name."
            )


def _as_usecase(written: object) -> object:
    return written if isinstance(written, UseCase) else read_typed(written)


AnyUseCase = Annotated[UseCase, BeforeValidator(_as_usecase), PlainSerializer(write_typed)]
"""A field that holds any vertical and writes its class beside its fields."""
