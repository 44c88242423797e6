"""The network: an encoder with dilated convolutions, a decoder after FPN (Lin 2017) and ENet (Paszke 2016), and the heads."""

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
from usecases.driving_perception.scenes import CONDITIONING, StoredScenes, inputs_of, read_card

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

CALIBRATING_FRAMES, BATCH = 256, 8
MIN_CONTRAST = 0.02  # standard deviation that is added, so that the noise of a blank image is not amplified
DILATIONS = ((1, 1), (1, 2), (4, 8))  # dilations of the blocks at 1/4, 1/8 and 1/16 of the resolution


class RoadBackbone(nn.Module):
    """image [N, 3, H, W] to features at 1/4, 1/8 and 1/16 of the resolution, of `widths` channels."""

    def __init__(self, channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.widths = [channels, 2 * channels, whole_blocks(10 * channels / 3)]
        self.stem = conv_norm(3, channels // 2, stride=2)
        stages, inputs = [], channels // 2
        for width, dilations in zip(self.widths, DILATIONS, strict=True):
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


class ContrastNormalisation(nn.Module):
    """Normalises brightness and contrast of each image: crops of signs are taken in bright sun and in the dark (after Ciresan 2012)."""

    def forward(self, image: Tensor) -> Tensor:
        """uint8 or float in [0, 1] to float with mean 0.5 and standard deviation 0.25 over all channels together."""
        if image.dtype == torch.uint8:
            image = image.float() / 255
        off = image - image.mean((1, 2, 3), keepdim=True)
        return 0.5 + 0.25 * off / (off.square().mean((1, 2, 3), keepdim=True).sqrt() + MIN_CONTRAST)


class Decoder(nn.Module):
    """Adds features of all resolutions and the mean over the image up at a quarter of the resolution: [N, channels, H/4, W/4]."""

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
    """image [N, 3, H, W] to the predictions of each head, by its name; all heads share one backbone."""

    def __init__(self, settings: DrivingPerception, card: dict[str, Any]) -> None:
        super().__init__()
        chosen, dense = [head for name, head in HEADS.items() if name in card["heads"]], 4 * settings.channels // 3
        self.conditioning = [name for name in CONDITIONING if name in card]
        self.contrast = ContrastNormalisation() if all(head.crops for head in chosen) else nn.Identity()
        self.backbone = RoadBackbone(settings.channels, card["mean"], card["std"])
        deepest = self.backbone.widths[-1]
        self.decoder = Decoder(self.backbone.widths, dense) if any(head.dense for head in chosen) else None
        self.heads = nn.ModuleDict({head.name: head.network(dense if head.dense else deepest, card, settings) for head in chosen})

    def forward(self, image: Tensor, **conditioning: Tensor) -> dict[str, Predictions]:
        """`conditioning` are inputs of `scenes.CONDITIONING` by name, [N, 2 count] each; an input that is left out counts as missing."""
        features = self.backbone(self.contrast(image))
        dense = self.decoder(features) if self.decoder is not None else features[0]
        found: dict[str, Predictions] = {}
        for name, network in self.heads.items():
            known = {one: conditioning[one] for one in HEADS[name].inputs if one in conditioning}
            predictions = network(dense, image.shape[2:], **known) if HEADS[name].dense else network(features[-1], **known)
            found[name] = predictions if isinstance(predictions, tuple) else (predictions,)
        return found

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), *([self.decoder] if self.decoder is not None else []), self.heads]


class Perceived(nn.Module):
    """The module to be exported: pixels to the outputs of all heads, in the order of `heads.table`."""

    def __init__(self, network: RoadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, first: Tensor | None = None, second: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the outputs of the exported graph.

        Args:
            image: uint8 [N, 3, H, W].
            first: the network's first conditioning input, float32 [N, 2 count], see `scenes.with_indicators`; None: missing.
            second: its second conditioning input; None: missing.

        Returns:
            The outputs of each head, see `heads.head.Head.outputs`.
        """
        given = (one for one in (first, second) if one is not None)
        found = self.network(image, **dict(zip(self.network.conditioning, given, strict=False)))
        return tuple(answer for name in found for answer in HEADS[name].answers(self.network.heads[name], found[name]))


def build(settings: DrivingPerception, assets: Path) -> RoadNetwork:
    return RoadNetwork(settings, read_card(assets))


def loss(settings: DrivingPerception, network: RoadNetwork, batch: dict[str, Tensor]) -> Tensor:
    """The weighted sum of the heads' losses, each over the frames with labels for it.

    Args:
        settings: the augmentation and the weights.
        network: in training mode.
        batch: of `scenes.StoredScenes`.

    Returns:
        A scalar.
    """
    seen = augmented(settings, batch)
    return _loss_of(settings, network, network(**inputs_of(seen)), seen)


def distillation_loss(
    settings: DrivingPerception, student: RoadNetwork, teacher: RoadNetwork, batch: dict[str, Tensor], weight: float, temperature: float
) -> Tensor:
    """The loss of a student: that of `loss`, and the weighted sum of the heads' distances from the teacher's predictions.

    Args:
        settings: the augmentation and the weights of the heads.
        student: the network that learns.
        teacher: sees the same augmented frames.
        batch: of `scenes.StoredScenes`.
        weight: share of the distances in the loss, in [0, 1].
        temperature: that the heads soften predictions by.

    Returns:
        A scalar.
    """
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
    """Calibrate the confidence of every head in place on the validation split."""
    for name in network.heads:
        rows = examples.rows_with(name)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, CALIBRATING_FRAMES).astype(np.int64))] if len(rows) else rows
        if len(chosen):
            HEADS[name].calibrate(network.heads[name], _predictions_of(name, network, examples, chosen))


def _predictions_of(name: str, network: RoadNetwork, examples: StoredScenes, rows: np.ndarray) -> Iterator[tuple[Arrays, Predictions]]:
    for start in range(0, len(rows), BATCH):
        batch = examples.batch(rows[start : start + BATCH])
        yield batch, network(**{one: torch.from_numpy(array) for one, array in inputs_of(batch).items()})[name]
