"""Layers of networks that see, which more than one vertical builds its own from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Normalise(nn.Module):
    """Pixels, uint8 or float in [0, 1], to zero mean and unit deviation per channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).clamp(min=1e-3).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        if image.dtype == torch.uint8:
            image = image.float() / 255
        return (image - self.mean) / self.std


def conv_norm(inputs: int, outputs: int, size: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, dilation * (size // 2), dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions round a shortcut (He 2016)."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = conv_norm(width, width, dilation=dilation)
        norm = nn.BatchNorm2d(width)
        nn.init.zeros_(norm.weight)  # starts as the identity (Goyal 2017)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))
