"""Which sign or light a picture shows that is cut out for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.contract.types import Arrays
from usecases.calibration import best_temperature
from usecases.driving_perception.heads.head import Head, Said
from usecases.driving_perception.scenes import NOTHING

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

SMOOTHING = 0.1  # of the labels (Szegedy 2016)


class SignalHead(Head):
    """features [N, F, h, w] to logits of the kinds, [N, C], by their mean and maximum; carries the temperature of its calibration."""

    def __init__(self, features: int, kinds: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.say = nn.Linear(2 * features, kinds)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, features: Tensor, size: tuple[int, int]) -> tuple[Tensor]:
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return (self.say(self.dropout(pooled)).float(),)

    def answers(self, said: Said) -> tuple[Tensor]:
        """Probabilities of the kinds, float32 [N, C]."""
        (logits,) = said
        return (torch.softmax(logits / self.temperature, 1),)

    def loss(self, said: Said, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        (logits,) = said
        each = F.cross_entropy(logits, batch["signal"], ignore_index=NOTHING, reduction="sum", label_smoothing=SMOOTHING)
        return each / (batch["signal"] != NOTHING).sum().clamp(min=1)

    def distance(self, said: Said, taught: Said, temperature: float) -> Tensor:
        """Cross-entropy with the teacher's softened kinds (Hinton 2015)."""
        wanted = torch.softmax(taught[0] / temperature, 1)
        return F.cross_entropy(said[0] / temperature, wanted) * temperature**2

    def calibrate(self, said: Iterator[tuple[Arrays, Said]]) -> None:
        """Temperature scaling."""
        logits, right = [], []
        for batch, (found,) in said:
            logits.append(found.numpy())
            right.append(batch["signal"][:, None] == np.arange(found.shape[1]))
        self.temperature.fill_(best_temperature(np.concatenate(logits), np.concatenate(right)))
