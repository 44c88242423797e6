"""The table of compression methods, and the settings of the search. To add a method, write a file next to this one and add a row here."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import Field, field_validator

from tasks.compression.clustering import Clustering
from tasks.compression.low_rank import Factorisation
from tasks.compression.method import Method
from tasks.compression.pruning import Pruning
from tasks.compression.qat import QuantizationAwareness
from tasks.compression.sparsity import Sparsification
from tasks.contract.records import Settings
from tasks.settings import Budget, Fit

RECOVERY_EPOCHS = 10
UNASKED = ("prune", "quantize_aware", "sparsify")  # the methods that are tried by default


def summary(method: type[Method]) -> str:
    """The first line of a method's docstring."""
    return (method.__doc__ or "").strip().splitlines()[0].rstrip(".")


def _row(method: Method) -> Any:
    return Field(default=method, description=f"settings of the method: {summary(type(method))}")


class Methods(Settings):
    """The settings of every method, by its name."""

    prune: Pruning = _row(Pruning())
    factorise: Factorisation = _row(Factorisation())
    cluster: Clustering = _row(Clustering())
    sparsify: Sparsification = _row(Sparsification())
    quantize_aware: QuantizationAwareness = _row(QuantizationAwareness())

    def method(self, name: str) -> Method:
        return getattr(self, name)


METHODS: dict[str, type[Method]] = {name: type(field.default) for name, field in Methods.model_fields.items()}


class Compression(Fit, Methods):
    """How to make a trained network smaller, and how to recover the quality that each step loses."""

    methods: tuple[str, ...] = Field(
        default=(),
        description="names of methods, separated by commas; each is applied to the result of the one before it: "
        + "; ".join(f"{name}: {summary(method)} ({method.gain})" for name, method in METHODS.items())
        + ". Empty: prune, then quantize_aware if int8 loses too much, then sparsify if the budget limits the size",
    )
    epochs: int = Field(
        default=0,
        ge=0,
        description="passes over the training split after each method, to recover quality; 0: only quantisation, or "
        f"{RECOVERY_EPOCHS} passes if methods are named",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")
    search_minutes: float = Field(
        default=0,
        ge=0,
        description="minutes of wall time after which no further attempt is started; attempts of earlier runs come from the store; 0: no limit",
    )

    @field_validator("methods")
    @classmethod
    def _exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in METHODS:
                near = difflib.get_close_matches(name, METHODS, n=1)
                did = f" Did you mean {near[0]}?" if near else ""
                raise ValueError(f"there is no compression method {name!r}.{did} There are: {', '.join(METHODS)}.")
        if len(set(names)) < len(names):
            raise ValueError(f"a method is named twice in {','.join(names)}; each can be applied once.")
        return names

    def chosen(self, budget: Budget) -> dict[str, Method]:
        """The methods to apply, in order: those that are named, otherwise those that suit the budget."""
        for_size = budget.objective == "size" or budget.max_megabytes > 0
        unasked = (name for name in UNASKED if for_size or not METHODS[name].only_stored)
        names = self.methods or (unasked if self.epochs else ())
        return {name: self.method(name) for name in names}

    def recovery(self) -> Fit:
        """Settings of the fit after each method."""
        given = {name: getattr(self, name) for name in Fit.model_fields}
        return Fit.model_validate(given | {"epochs": self.epochs or RECOVERY_EPOCHS})
