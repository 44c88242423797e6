"""Convolutional layers that several verticals build their networks from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 16  # channels


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


def whole_blocks(channels: float) -> int:
    """Round to the nearest multiple of 16 channels, at least 16.

    With other numbers the gradients that torch 2.13 computes in bf16 on CPUs for the weights of dilated convolutions are wrong: off by a third, or
    infinite (measured with 24, 40, 56, 72, 88 and 104 channels; right with 32, 48, 64, 80, 96 and 112).
    """
    return max(BLOCK, round(channels / BLOCK) * BLOCK)


def conv_norm(inputs: int, outputs: int, size: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A convolution without bias, batch normalisation and ReLU.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        size: side of the kernel in pixels; an odd number.
        stride: 1 keeps the resolution, 2 halves it.
        dilation: distance between the kernel's pixels.

    Returns:
        The layers, [N, inputs, H, W] to [N, outputs, H / stride, W / stride].
    """
    convolution = nn.Conv2d(inputs, outputs, size, stride, dilation * (size // 2), dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """A residual block of two convolutions (He 2016)."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = conv_norm(width, width, dilation=dilation)
        norm = nn.BatchNorm2d(width)
        nn.init.zeros_(norm.weight)  # starts as the identity (Goyal 2017)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))
