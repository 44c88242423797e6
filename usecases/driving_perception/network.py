"""An encoder that looks ever wider and a decoder that finds its way back to every pixel (after FPN, Lin 2017, and ENet, Paszke 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.convolutions import Normalise, Residual, conv_norm, whole_blocks
from usecases.driving_perception.augment import augmented
from usecases.driving_perception.heads.boxes.network import BoxHead
from usecases.driving_perception.heads.classifier import SignalHead
from usecases.driving_perception.heads.head import Head, Said
from usecases.driving_perception.heads.mask.network import MaskHead
from usecases.driving_perception.heads.steering.network import SteeringHead
from usecases.driving_perception.scenes import TOLD, StoredScenes, inputs_of, read_card

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

DENSE = frozenset({"mask", "boxes"})  # heads that say something of every place
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
    """image [N, 3, H, W] to what each head says of it, by the head's name: one backbone for all of them."""

    def __init__(self, settings: DrivingPerception, card: dict[str, Any]) -> None:
        super().__init__()
        heads, dense = card["heads"], 4 * settings.channels // 3
        self.told = [name for name in TOLD if name in card]
        self.light = EvenLight() if heads == ["signal"] else nn.Identity()
        self.backbone = RoadBackbone(settings.channels, card["mean"], card["std"])
        deepest = self.backbone.widths[-1]
        self.decoder = Decoder(self.backbone.widths, dense) if DENSE & set(heads) else None
        self.heads = nn.ModuleDict()
        if "mask" in heads:
            self.heads["mask"] = MaskHead(dense, len(card["classes"]), settings.dropout)
        if "boxes" in heads:
            self.heads["boxes"] = BoxHead(dense, len(card["objects"]))
        if "steering" in heads:
            self.heads["steering"] = SteeringHead(deepest, settings.dropout, card)
        if "signal" in heads:
            self.heads["signal"] = SignalHead(deepest, len(card["signals"]), settings.dropout)

    def forward(self, image: Tensor, **told: Tensor) -> dict[str, Said]:
        """`told`, [N, 2 count] each, are those of `scenes.TOLD` that the data know; what is left out is not known."""
        features = self.backbone(self.light(image))
        dense = self.decoder(features) if self.decoder is not None else features[0]
        said = {}
        for name, head in self.heads.items():
            beside = told if name == "steering" else {}
            said[name] = head(dense if name in DENSE else features[-1], image.shape[2:], **beside)
        return said

    def head(self, name: str) -> Head:
        return cast(Head, self.heads[name])

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), *([self.decoder] if self.decoder is not None else []), self.heads]


class Perceived(nn.Module):
    """Pixels to the answers of all heads, in the order of `scenes.OUTPUTS`."""

    def __init__(self, network: RoadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, first: Tensor | None = None, second: Tensor | None = None) -> tuple[Tensor, ...]:
        """uint8 [N, 3, H, W], and what the network is told beside it, float32 [N, 2 count] each, see `scenes.told`."""
        given = (one for one in (first, second) if one is not None)
        said = self.network(image, **dict(zip(self.network.told, given, strict=False)))
        return tuple(answer for name in said for answer in self.network.head(name).answers(said[name]))


def build(settings: DrivingPerception, assets: Path) -> RoadNetwork:
    return RoadNetwork(settings, read_card(assets))


def loss(settings: DrivingPerception, network: RoadNetwork, batch: dict[str, Tensor]) -> Tensor:
    """The weighed sum of the heads' losses, each over the frames of which is known what it is to say."""
    seen = augmented(settings, batch)
    return observed(settings, network, network(**inputs_of(seen)), seen)


def taught_loss(
    settings: DrivingPerception, student: RoadNetwork, teacher: RoadNetwork, batch: dict[str, Tensor], weight: float, temperature: float
) -> Tensor:
    """The same, a part `weight` of it the weighed sum of the heads' distances from the teacher's opinion of the same augmented frames."""
    seen = augmented(settings, batch)
    with torch.no_grad():
        taught = teacher(**inputs_of(seen))
    said, weights = student(**inputs_of(seen)), head_weights(settings)
    far = torch.stack([weights[name] * student.head(name).distance(said[name], taught[name], temperature) for name in said]).sum()
    return (1 - weight) * observed(settings, student, said, seen) + weight * far


def observed(settings: DrivingPerception, network: RoadNetwork, said: dict[str, Said], seen: dict[str, Tensor]) -> Tensor:
    weights = head_weights(settings)
    return torch.stack([weights[name] * network.head(name).loss(said[name], seen, settings) for name in said]).sum()


def head_weights(settings: DrivingPerception) -> dict[str, float]:
    return {
        "mask": settings.mask_weight,
        "boxes": settings.boxes_weight,
        "steering": settings.steering_weight,
        "signal": settings.signal_weight,
    }


@torch.no_grad()
def calibrate(network: RoadNetwork, examples: StoredScenes) -> None:
    """On the validation split: every head is to be right as often as it says it is."""
    for name in network.heads:
        rows = examples.rows_with(name)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, CALIBRATING_FRAMES).astype(np.int64))] if len(rows) else rows
        batches = (examples.batch(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH))
        if len(chosen):
            told = ((batch, {name: torch.from_numpy(array) for name, array in inputs_of(batch).items()}) for batch in batches)
            network.head(name).calibrate((batch, network(**tensors)[name]) for batch, tensors in told)
