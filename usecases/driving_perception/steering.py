"""What a driver would do, read from one picture: a value and how sure it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.usecase import Examples, Predict
from usecases.driving_perception.augment import recoloured
from usecases.driving_perception.network import RoadBackbone
from usecases.driving_perception.scenes import read_card

if TYPE_CHECKING:
    from usecases.driving_perception import Steering

NARROW, HIDDEN = 12, 64  # channels that keep their place in the picture; numbers before the last layer
SUREST = -6.0  # logarithm of a variance: none is smaller
BATCH = 64


class SteeringNetwork(nn.Module):
    """image [N, 3, H, W] to standardised values and the logarithms of their variances, [N, K] each (Nix 1994)."""

    def __init__(self, channels: int, dropout: float, card: dict[str, list[float]], height: int, width: int) -> None:
        super().__init__()
        self.backbone = RoadBackbone(channels, card["mean"], card["std"])
        self.narrow = nn.Sequential(
            nn.Conv2d(self.backbone.widths[-1], NARROW, 1, bias=False), nn.BatchNorm2d(NARROW), nn.ReLU(inplace=True)
        )
        cells = -(-height // 16) * -(-width // 16)
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(NARROW * cells, HIDDEN), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )
        self.head = nn.Linear(HIDDEN, 2 * len(card["usual"]))
        self.usual: Tensor
        self.spread: Tensor
        self.widening: Tensor
        self.register_buffer("usual", torch.tensor(card["usual"]))
        self.register_buffer("spread", torch.tensor(card["spread"]))
        self.register_buffer("widening", torch.ones(len(card["usual"])))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        value, doubt = self.head(self.hidden(self.narrow(self.backbone(image)[-1]))).float().chunk(2, 1)
        return value, SUREST + F.softplus(doubt - SUREST)

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), self.narrow, self.hidden, self.head]


class Steered(nn.Module):
    """Pixels to values as they were recorded, and their standard deviations."""

    def __init__(self, network: SteeringNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, 3, H, W] to float32 [N, K] twice."""
        network = self.network
        value, doubt = network(image)
        return value * network.spread + network.usual, torch.exp(doubt / 2) * network.spread * network.widening


def build_steering(settings: Steering, assets: Path) -> SteeringNetwork:
    card = read_card(assets)
    return SteeringNetwork(settings.channels, settings.dropout, card, int(card["height"]), int(card["width"]))


def steering_loss(settings: Steering, network: SteeringNetwork, batch: dict[str, Tensor]) -> Tensor:
    """Gaussian negative log-likelihood, each error weighed by the square root of its variance (beta-NLL, Seitzer 2022), which keeps the mean honest."""
    image, wanted = batch["image"].float() / 255, batch["value"].clone()
    if settings.mirror:
        mirrored = torch.rand(len(image), device=image.device) < 0.5
        image = torch.where(mirrored[:, None, None, None], image.flip(3), image)
        wanted[:, 0] = torch.where(mirrored, -wanted[:, 0], wanted[:, 0])
    wanted = (wanted - network.usual) / network.spread
    value, doubt = network(recoloured(image, settings.colour))
    surprise = 0.5 * (doubt + (wanted - value).square() * torch.exp(-doubt))
    return (surprise * torch.exp(doubt / 2).detach()).mean()


@torch.no_grad()
def fit_widening(network: SteeringNetwork, predict: Predict, examples: Examples) -> None:
    """The factor that makes the deviations as large as the errors of the validation split are."""
    value, deviation, wanted = answers(predict, examples)
    network.widening.mul_(torch.from_numpy(np.sqrt(np.square((value - wanted) / deviation).mean(0)).clip(0.05, 20)).float())


def answers(predict: Predict, examples: Examples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, deviations and what the driver did, [N, K] each."""
    values, deviations, wanted = [], [], []
    for start in range(0, len(examples), BATCH):
        batch = examples.batch(np.arange(start, min(start + BATCH, len(examples))))
        found = predict({"image": batch["image"]})
        values.append(found["values"])
        deviations.append(found["deviations"])
        wanted.append(batch["value"])
    return np.concatenate(values), np.concatenate(deviations), np.concatenate(wanted)
