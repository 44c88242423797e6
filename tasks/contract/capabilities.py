"""Capabilities: optional features of a use case. Each is a small base class that a use case inherits in addition to `UseCase`.

    class Sentiment(UseCase, Distillable, Explainable): ...

The project tests for a capability with `isinstance` and skips the feature if a use case does not have it: without `Distillable` no student
is trained, without `Explainable` the server offers no explanations. Methods may import torch inside their bodies only. In their docstrings,
`folder` is the prepared data (what `UseCase.prepare` wrote) and `assets` its folder of that name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.codec import Codec
from tasks.contract.statistics import Statistics
from tasks.contract.types import Arrays, Predict, Split

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tasks.contract.usecase import UseCase


class Resolvable(ABC):
    """Some settings have a value such as "auto" and are set from the data, such as the task of a text data set."""

    @abstractmethod
    def resolve(self, card: dict[str, Any]) -> UseCase:
        """The use case with all settings set that depend on the data.

        Args:
            card: the data card that `UseCase.prepare` returned.
        """


def resolved(usecase: UseCase, card: dict[str, Any]) -> UseCase:
    """The use case with its settings resolved by the data card; unchanged if it is not `Resolvable`."""
    return usecase.resolve(card) if isinstance(usecase, Resolvable) else usecase


class Pretrainable(ABC):
    """The backbone can be pretrained on another task over the same data, such as masked language modelling.

    The networks of both use cases need an attribute `backbone`. After pretraining, its weights are copied by name; weights of other names or
    shapes are not.
    """

    @abstractmethod
    def pretraining(self) -> UseCase | None:
        """The use case of the pretraining task; None if these settings do without."""


class Adaptable(ABC):
    """The trained network can be fine-tuned for a part of the data, with rehearsal of the rest against forgetting."""

    @abstractmethod
    def focus(self, folder: Path) -> np.ndarray | None:
        """Indices of the training examples to fine-tune for, int64 [N]; None if these settings name no such part."""


class HasBaselines(ABC):
    """There are simple baseline models, which a trained network has to beat to be released."""

    @abstractmethod
    def baselines(self) -> Mapping[str, UseCase]:
        """The baselines by name: use cases over the same data that are `Computed`."""


class Computed(ABC):
    """The weights of the network are computed from the data in closed form, without gradient descent; for baselines."""

    @abstractmethod
    def fit(self, network: nn.Module, folder: Path) -> None:
        """Set the weights of the network in place from the training split.

        The network is in evaluation mode, and gradients are off.
        """


class Calibrated(ABC):
    """The confidence of the network is calibrated once its weights are final."""

    @abstractmethod
    def calibrate(self, network: nn.Module, predict: Predict, folder: Path) -> None:
        """Calibrate the network in place on the validation split, for instance by temperature scaling (Guo 2017).

        Args:
            network: the trained network, in evaluation mode; gradients are off.
            predict: the same network as a function of arrays.
            folder: the prepared data.
        """


class Distillable:
    """A smaller student can learn from the trained network by knowledge distillation (Hinton 2015).

    Implement `logits`, from which the usual loss follows, or `distillation_loss` itself. The teacher also serves methods of compression: a
    pruned or factorised network recovers with the network before compression as its teacher.
    """

    def student_usecase(self) -> UseCase | None:
        """The use case with the settings of the student, about half the size of the teacher; None if these settings ask for none."""
        return None

    def initialise_student(self, student: nn.Module, teacher: nn.Module) -> None:
        """Initialise the student in place with weights of the teacher; by default the student keeps its random weights."""
        return

    def logits(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [N, C] of a network and the target classes, int64 [N], where N may differ from the batch size, as it does for tokens.

        Draw random numbers of augmentation and sampling before the network is called, so that student and teacher get the same inputs.
        """
        raise NotImplementedError

    def distillation_loss(
        self, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
    ) -> Tensor:
        """The training loss of the student: by default cross-entropy with the targets and with the softened predictions of the teacher.

        Args:
            student: the network that learns.
            teacher: the network that it learns from; its weights are frozen.
            batch: inputs and targets by name, each with B rows.
            weight: weight of the distance to the teacher's predictions, in [0, 1]; the targets have the rest.
            temperature: divides the logits of both networks before the softmax.

        Returns:
            A scalar.
        """
        import torch
        from torch.nn import functional as F

        with torch.random.fork_rng(), torch.no_grad():  # both draw the same random numbers, so that they see the same batch
            teacher_logits, _ = self.logits(teacher, batch)
        student_logits, target = self.logits(student, batch)
        return (1 - weight) * F.cross_entropy(student_logits, target) + weight * soft_loss(student_logits, teacher_logits, temperature)


class HasHiddenStates(ABC):
    """A student can also learn from the hidden states (FitNets, Romero 2015) and attention maps (TinyBERT, Jiao 2020) of its teacher."""

    @abstractmethod
    def hidden_layers(self, network: nn.Module) -> list[nn.Module]:
        """The layers whose outputs are compared, from the input to the output: hidden states [B, L, D], [B, D] or [B, D, H, W]."""

    def attention_layers(self, network: nn.Module) -> list[nn.Module]:
        """The layers whose attention maps are compared, from the input to the output; by default none.

        Each needs a method `weights` that takes the arguments of `forward` and returns attention weights [B, heads, Q, L].
        """
        return []

    def padding_mask(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor | None:
        """The positions of hidden states [B, L, D] that are compared, bool [B, L]: False for padding; None if there is no padding."""
        return None


class HasApproximation(ABC):
    """The trained network has an approximate mode of inference that is faster, such as a search among a part of the items."""

    @abstractmethod
    def approximation(self, assets: Path) -> UseCase | None:
        """The use case with approximate inference for the same weights; None if it would not be faster."""

    @abstractmethod
    def agreement(self, found: Arrays, expected: Arrays) -> dict[str, float]:
        """How far a compressed model agrees with the full-precision model.

        Args:
            found: outputs of the compressed model.
            expected: outputs of the full-precision model for the same inputs.

        Returns:
            Scores by their usual names, such as overlap of the top 10, which the report shows.
        """


class Explainable(ABC):
    """A bundle can explain its answers."""

    @abstractmethod
    def explain(self, predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
        """The explanation of the answer to a request. It runs in the server and must load neither torch nor transformers.

        Args:
            predict: the model; it may be called many times, as for occlusion or LIME.
            codec: the codec of the bundle, which encodes changed requests and decodes the outputs.
            request: one request.

        Returns:
            The explanation, ready for JSON. The codec shows it in its blocks.
        """


class Attributable(ABC):
    """The trained network has attributions, by gradients or attention, for the report."""

    @abstractmethod
    def attributions(self, network: nn.Module, folder: Path) -> list[dict[str, Any]]:
        """Blocks for the report with attributions of examples of the test split; they may be computed in torch."""


class HasStatistics(ABC):
    """The main score has per-example statistics, with which differences between models can be tested for significance."""

    @abstractmethod
    def statistics(self, predict: Predict, folder: Path, split: Split) -> Statistics | None:
        """Per-example statistics of a predictor.

        Args:
            predict: a torch module, an ONNX graph or a live server.
            folder: the prepared data.
            split: the split to score.

        Returns:
            Statistics from which the `UseCase.monitor` of `UseCase.score` follows; None if it is not a function of means over the examples.
        """


class HasFigures(ABC):
    """The report has a section with figures of this use case."""

    @abstractmethod
    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        """The section about the released model on the test split.

        Returns:
            `{"title": str, "blocks": [...]}` with blocks of `tasks.contract.blocks`.
        """


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the student's predictions with the teacher's, both softened by a temperature (Hinton 2015).

    Args:
        student: logits [N, C].
        teacher: logits [N, C]; classes with a logit of minus infinity do not count.
        temperature: divides the logits.

    Returns:
        A scalar, multiplied by the square of the temperature, so that gradients keep their size.
    """
    import torch

    wanted = torch.softmax(teacher.float() / temperature, dim=1)
    found = torch.log_softmax(student.float() / temperature, dim=1)
    return -(wanted * found.masked_fill(wanted == 0, 0)).sum(1).mean() * temperature**2
