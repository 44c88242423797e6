"""An encoder that looks ever wider and a decoder that finds its way back to every pixel (after FPN, Lin 2017, and ENet, Paszke 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.convolutions import Normalise, Residual, conv_norm
from usecases.driving_perception.scenes import read_card

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

WIDENINGS = ((1, 1), (1, 2), (4, 8))  # dilations of the blocks at 1/4, 1/8 and 1/16 of the resolution


class RoadBackbone(nn.Module):
    """image [N, 3, H, W] to features at 1/4, 1/8 and 1/16 of the resolution, of `widths` channels."""

    def __init__(self, channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.widths = [channels, 2 * channels, 10 * channels // 3]
        self.stem = conv_norm(3, channels // 2, stride=2)
        stages, inputs = [], channels // 2
        for width, dilations in zip(self.widths, WIDENINGS, strict=True):
            stages.append(nn.Sequential(conv_norm(inputs, width, stride=2), *(Residual(width, dilation) for dilation in dilations)))
            inputs = width
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, found = self.stem(self.normalise(image)), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def layers(self) -> list[nn.Module]:
        return [self.stem, *self.stages]


class Decoder(nn.Module):
    """Features of all resolutions, and the mean of the whole picture, added up at a quarter of it: [N, channels, H/4, W/4]."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_norm(width, channels, size=1) for width in widths)
        self.whole = nn.Conv2d(widths[-1], channels, 1)
        self.smooth = nn.ModuleList(conv_norm(channels, channels) for _ in widths[1:])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = self.lateral[-1](features[-1]) + F.relu(self.whole(features[-1].mean((2, 3), keepdim=True)))
        for lateral, smooth, finer in zip(reversed(self.lateral[:-1]), self.smooth, reversed(features[:-1]), strict=True):
            x = smooth(lateral(finer) + F.interpolate(x, size=finer.shape[2:], mode="bilinear", align_corners=False))
        return x


class RoadNetwork(nn.Module):
    """image [N, 3, H, W] to logits of every pixel's class, [N, C, H, W]; carries the temperature of its calibration."""

    def __init__(self, channels: int, classes: int, dropout: float, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.backbone = RoadBackbone(channels, mean, std)
        self.decoder = Decoder(self.backbone.widths, 4 * channels // 3)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(4 * channels // 3, classes, 1)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        coarse = self.head(self.dropout(self.decoder(self.backbone(image))))
        return F.interpolate(coarse.float(), size=image.shape[2:], mode="bilinear", align_corners=False)

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), self.decoder, self.head]


class Segmented(nn.Module):
    """Pixels to the likeliest class of each, and how sure that is."""

    def __init__(self, network: RoadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, 3, H, W] to classes, int64 [N, H, W], and their probabilities, float32 [N, H, W]."""
        likely = torch.softmax(self.network(image) / self.network.temperature, 1)
        sure, mask = likely.max(1)
        return mask, sure


def build(settings: DrivingPerception, assets: Path) -> RoadNetwork:
    card = read_card(assets)
    return RoadNetwork(settings.channels, len(card["classes"]), settings.dropout, card["mean"], card["std"])
