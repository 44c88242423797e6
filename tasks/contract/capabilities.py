"""What a use case may offer beyond the core of `UseCase`: each capability is a small class that a vertical inherits by name.

Engines ask with `isinstance` and leave out what a vertical does not offer. Methods may import torch inside of their bodies only.
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
    """Some settings depend on what the data turn out to be, such as the task of a text data set."""

    @abstractmethod
    def resolve(self, card: dict[str, Any]) -> UseCase:
        """The use case with every such setting decided by the card of the prepared data."""


def resolved(usecase: UseCase, card: dict[str, Any]) -> UseCase:
    """The use case as the card of its data decides it; unchanged where there is nothing to decide."""
    return usecase.resolve(card) if isinstance(usecase, Resolvable) else usecase


class Pretrainable(ABC):
    """The backbone can be pretrained on a broader task over the same data.

    The networks of both use cases have an attribute `backbone`, whose weights are handed over.
    """

    @abstractmethod
    def pretraining(self) -> UseCase | None:
        """The broad task; None: with these settings there is none."""


class Adaptable(ABC):
    """The trained network can be fine-tuned for a part of the data."""

    @abstractmethod
    def focus(self, folder: Path) -> np.ndarray | None:
        """The examples of the training split that the network is to be best at in the end, int64 [N]; None: all alike."""


class HasBaselines(ABC):
    """There are simple models that a trained network must beat to be released."""

    @abstractmethod
    def baselines(self) -> Mapping[str, UseCase]:
        """By name, use cases over the same data; each is `Computed`."""


class Computed(ABC):
    """The network is computed from the data at once instead of being trained."""

    @abstractmethod
    def fit(self, network: nn.Module, folder: Path) -> None:
        """Fill in the network from the training split of a prepared data set; it is in evaluation mode, and no gradients are recorded."""


class Calibrated(ABC):
    """The network's confidence is calibrated once its weights are final."""

    @abstractmethod
    def calibrate(self, network: nn.Module, predict: Predict, folder: Path) -> None:
        """Adjust the network in place on the validation split, for instance by a temperature (Guo 2017)."""


class Distillable:
    """A student can learn from a teacher network of the same use case (Hinton 2015)."""

    def student_usecase(self) -> UseCase | None:
        """The use case with the settings of a student of about half the size; None: with these settings there is none."""
        return None

    def initialise_student(self, student: nn.Module, teacher: nn.Module) -> None:
        """Start a student from the weights that it can take over from its teacher; by default it starts afresh."""
        return

    def logits(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What a student and its teacher are compared by: scores of classes [N, C], and the right class [N].

        Random draws (augmentation, sampling) come before the network's own, so that two networks can see the same.
        A use case implements this or `distillation_loss`.
        """
        raise NotImplementedError

    def distillation_loss(
        self, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
    ) -> Tensor:
        """A student's training loss, a scalar, computed from `logits` unless a use case knows better.

        Args:
            student: the network that learns.
            teacher: the network that it learns from; its weights are frozen.
            batch: inputs and targets by name, each with B rows.
            weight: share of the loss that is the distance to the teacher's predictions, in [0, 1].
            temperature: that logits are divided by before they are compared.
        """
        import torch
        from torch.nn import functional as F

        with torch.random.fork_rng(), torch.no_grad():  # both draw the same random numbers, so that they see the same batch
            wanted, _ = self.logits(teacher, batch)
        found, target = self.logits(student, batch)
        return (1 - weight) * F.cross_entropy(found, target) + weight * soft_loss(found, wanted, temperature)


class HasHiddenStates(ABC):
    """A student may also learn from its teacher's hidden states (FitNets, Romero 2015) and attention (TinyBERT, Jiao 2020)."""

    @abstractmethod
    def hidden_layers(self, network: nn.Module) -> list[nn.Module]:
        """Layers whose outputs are compared, earliest first: [B, L, D], [B, D] or [B, D, H, W]."""

    def attention_layers(self, network: nn.Module) -> list[nn.Module]:
        """Layers whose method `weights`, called as the layer itself, returns attention weights [B, heads, Q, L]; by default none."""
        return []

    def padding_mask(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor | None:
        """True for the places of hidden states [B, L, D] that are no padding, bool [B, L]; None: none is padding."""
        return None


class HasApproximation(ABC):
    """The trained network has a quicker, approximate way to its answers."""

    @abstractmethod
    def approximation(self, assets: Path) -> UseCase | None:
        """The use case with that way; None where it would not pay."""

    @abstractmethod
    def agreement(self, found: Arrays, expected: Arrays) -> dict[str, float]:
        """How far the outputs of a compressed model agree with the full one's for the same inputs, by the field's names."""


class Explainable(ABC):
    """A bundle can explain its answers."""

    @abstractmethod
    def explain(self, predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
        """Why the answer to a request is what it is, ready for JSON. Loads neither torch nor transformers."""


class Attributable(ABC):
    """The trained network itself shows what it looks at, by gradients or attention."""

    @abstractmethod
    def attributions(self, network: nn.Module, folder: Path) -> list[dict[str, Any]]:
        """Blocks for the report about examples of the test split, computed in torch."""


class HasStatistics(ABC):
    """The monitored score can be taken apart by example, so that two models can be told from noise."""

    @abstractmethod
    def statistics(self, predict: Predict, folder: Path, split: Split) -> Statistics | None:
        """Per-example statistics of a predictor on a split; None where the monitored score is no function of means over examples."""


class HasFigures(ABC):
    """The report has a section of its own for this vertical."""

    @abstractmethod
    def figures(self, predict: Predict, folder: Path) -> dict[str, Any]:
        """`{"title": str, "blocks": [...]}` about the chosen model on the test split; blocks of `tasks.contract.blocks`."""


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the student's softened classes with the teacher's, [N, C] each; times T² so that gradients keep their size."""
    import torch

    wanted = torch.softmax(teacher.float() / temperature, dim=1)
    found = torch.log_softmax(student.float() / temperature, dim=1)
    return -(wanted * found.masked_fill(wanted == 0, 0)).sum(1).mean() * temperature**2
