"""An encoder that looks ever wider and a decoder that finds its way back to every pixel (after FPN, Lin 2017, and ENet, Paszke 2016)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.contract.types import Arrays
from usecases.convolutions import Normalise, Residual, conv_norm, whole_blocks
from usecases.driving_perception.augment import augmented
from usecases.driving_perception.heads.head import Predictions
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.scenes import TOLD, StoredScenes, inputs_of, read_card

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

CALIBRATING_FRAMES, BATCH = 256, 8
DARKEST = 0.02  # deviation of a picture that shows nothing: its noise is not to fill the range
WIDENINGS = ((1, 1), (1, 2), (4, 8))  # dilations of the blocks at 1/4, 1/8 and 1/16 of the resolution


class RoadBackbone(nn.Module):
    """image [N, 3, H, W] to features at 1/4, 1/8 and 1/16 of the resolution, of `widths` channels."""

    def __init__(self, channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.widths = [channels, 2 * channels, whole_blocks(10 * channels / 3)]
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


class EvenLight(nn.Module):
    """Every picture brought to the same brightness and contrast: those of signs are taken in the sun and in the dark (after Ciresan 2012)."""

    def forward(self, image: Tensor) -> Tensor:
        """uint8 or float in [0, 1], to float of mean .5 and deviation .25, all channels together."""
        if image.dtype == torch.uint8:
            image = image.float() / 255
        off = image - image.mean((1, 2, 3), keepdim=True)
        return 0.5 + 0.25 * off / (off.square().mean((1, 2, 3), keepdim=True).sqrt() + DARKEST)


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
    """image [N, 3, H, W] to the predictions of each head, by its name: one backbone for all of them."""

    def __init__(self, settings: DrivingPerception, card: dict[str, Any]) -> None:
        super().__init__()
        chosen, dense = [head for name, head in HEADS.items() if name in card["heads"]], 4 * settings.channels // 3
        self.told = [name for name in TOLD if name in card]
        self.light = EvenLight() if all(head.cut_outs for head in chosen) else nn.Identity()
        self.backbone = RoadBackbone(settings.channels, card["mean"], card["std"])
        deepest = self.backbone.widths[-1]
        self.decoder = Decoder(self.backbone.widths, dense) if any(head.dense for head in chosen) else None
        self.heads = nn.ModuleDict({head.name: head.network(dense if head.dense else deepest, card, settings) for head in chosen})

    def forward(self, image: Tensor, **told: Tensor) -> dict[str, Predictions]:
        """`told`, [N, 2 count] each, are those of `scenes.TOLD` that the data know; what is left out is not known."""
        features = self.backbone(self.light(image))
        dense = self.decoder(features) if self.decoder is not None else features[0]
        found: dict[str, Predictions] = {}
        for name, network in self.heads.items():
            known = {one: told[one] for one in HEADS[name].inputs if one in told}
            predictions = network(dense, image.shape[2:], **known) if HEADS[name].dense else network(features[-1], **known)
            found[name] = predictions if isinstance(predictions, tuple) else (predictions,)
        return found

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), *([self.decoder] if self.decoder is not None else []), self.heads]


class Perceived(nn.Module):
    """Pixels to the answers of all heads, in the order of `heads.table`."""

    def __init__(self, network: RoadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, first: Tensor | None = None, second: Tensor | None = None) -> tuple[Tensor, ...]:
        """uint8 [N, 3, H, W], and the further inputs of the network, float32 [N, 2 count] each, see `scenes.told`."""
        given = (one for one in (first, second) if one is not None)
        found = self.network(image, **dict(zip(self.network.told, given, strict=False)))
        return tuple(answer for name in found for answer in HEADS[name].answers(self.network.heads[name], found[name]))


def build(settings: DrivingPerception, assets: Path) -> RoadNetwork:
    return RoadNetwork(settings, read_card(assets))


def loss(settings: DrivingPerception, network: RoadNetwork, batch: dict[str, Tensor]) -> Tensor:
    """The weighed sum of the heads' losses, each over the frames of which is known what it is to predict."""
    seen = augmented(settings, batch)
    return _loss_of(settings, network, network(**inputs_of(seen)), seen)


def distillation_loss(
    settings: DrivingPerception, student: RoadNetwork, teacher: RoadNetwork, batch: dict[str, Tensor], weight: float, temperature: float
) -> Tensor:
    """The same, a part `weight` of it the weighed sum of the heads' distances from the teacher's predictions of the same augmented frames."""
    seen = augmented(settings, batch)
    with torch.no_grad():
        wanted = teacher(**inputs_of(seen))
    found = student(**inputs_of(seen))
    far = [HEADS[name].weight(settings) * HEADS[name].distance(found[name], wanted[name], temperature) for name in found]
    return (1 - weight) * _loss_of(settings, student, found, seen) + weight * torch.stack(far).sum()


def _loss_of(settings: DrivingPerception, network: RoadNetwork, found: dict[str, Predictions], seen: dict[str, Tensor]) -> Tensor:
    losses = [HEADS[name].weight(settings) * HEADS[name].loss(network.heads[name], found[name], seen, settings) for name in found]
    return torch.stack(losses).sum()


@torch.no_grad()
def calibrate(network: RoadNetwork, examples: StoredScenes) -> None:
    """On the validation split: every head is to be right as often as its answers claim."""
    for name in network.heads:
        rows = examples.rows_with(name)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, CALIBRATING_FRAMES).astype(np.int64))] if len(rows) else rows
        if len(chosen):
            HEADS[name].calibrate(network.heads[name], _predictions_of(name, network, examples, chosen))


def _predictions_of(name: str, network: RoadNetwork, examples: StoredScenes, rows: np.ndarray) -> Iterator[tuple[Arrays, Predictions]]:
    for start in range(0, len(rows), BATCH):
        batch = examples.batch(rows[start : start + BATCH])
        yield batch, network(**{one: torch.from_numpy(array) for one, array in inputs_of(batch).items()})[name]
