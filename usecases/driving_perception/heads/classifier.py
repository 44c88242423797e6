"""A classifier of whole images, for heads that need no network of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PooledClassifier(nn.Module):
    """features [N, F, h, w] to logits [N, C], by global average and maximum pooling. Its buffer `temperature` is fitted by calibration."""

    def __init__(self, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.say = nn.Linear(2 * features, classes)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return self.say(self.dropout(pooled)).float()
