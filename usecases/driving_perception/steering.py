"""What a driver would do, read from one picture: values and how sure they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.usecase import Arrays
from usecases.driving_perception.head import Head, Said

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

NARROW, HIDDEN = 12, 64  # channels that keep their place in the picture; numbers before the last layer
MOST_CELLS = (8, 10)  # rows and columns of places that are told apart
UNTOLD = 0.2  # share of the moments of training whose speed is kept back, so that a request may leave it out
STRIDE = 16  # of the features, in pixels
SUREST = -6.0  # logarithm of a variance: none is smaller


class SteeringHead(Head):
    """features [N, F, h, w] to standardised values and the logarithms of their variances, [N, K] each (Nix 1994)."""

    def __init__(self, features: int, dropout: float, card: dict[str, Any]) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(features, NARROW, 1, bias=False), nn.BatchNorm2d(NARROW), nn.ReLU(inplace=True))
        sides = (int(card["height"]), int(card["width"]))
        self.cells = tuple(min(-(-side // STRIDE), most) for side, most in zip(sides, MOST_CELLS, strict=True))
        self.flat = nn.Sequential(nn.Flatten(), nn.Dropout(dropout))
        told = NARROW * self.cells[0] * self.cells[1] + (2 if "speed" in card else 0)
        self.hidden = nn.Sequential(nn.Linear(told, HIDDEN), nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.say = nn.Linear(HIDDEN, 2 * len(card["usual"]))
        self.usual: Tensor
        self.spread: Tensor
        self.widening: Tensor
        self.speed: Tensor | None
        self.register_buffer("speed", torch.tensor(card["speed"]) if "speed" in card else None)
        self.register_buffer("usual", torch.tensor(card["usual"]))
        self.register_buffer("spread", torch.tensor(card["spread"]))
        self.register_buffer("widening", torch.ones(len(card["usual"])))

    def forward(self, features: Tensor, size: tuple[int, int], speed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`speed` [N, 2] as `scenes.told_speed` tells it; None: it is not known."""
        x = self.narrow(features)
        if tuple(x.shape[2:]) != self.cells:
            x = F.interpolate(x, size=self.cells, mode="bilinear", align_corners=False)
        x = self.flat(x)
        if self.speed is not None:
            x = torch.cat([x, self._standardised(speed if speed is not None else x.new_zeros(len(x), 2), self.speed).to(x.dtype)], 1)
        value, doubt = self.say(self.hidden(x)).float().chunk(2, 1)
        return value, SUREST + F.softplus(doubt - SUREST)

    def _standardised(self, speed: Tensor, usual: Tensor) -> Tensor:
        """[N, 2]: the speed in deviations from the mean where it is known, else 0; and whether it is known. In training it is sometimes not."""
        known = speed[:, 1:]
        if self.training:
            known = known * (torch.rand_like(known) >= UNTOLD)
        return torch.cat([(speed[:, :1] - usual[0]) / usual[1] * known, known], 1)

    def answers(self, said: Said) -> tuple[Tensor, Tensor]:
        """Values as they were recorded and their standard deviations, float32 [N, K] each."""
        value, doubt = said
        return value * self.spread + self.usual, torch.exp(doubt / 2) * self.spread * self.widening

    def loss(self, said: Said, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        value, doubt = said
        return surprise(value, doubt, (batch["values"] - self.usual) / self.spread)

    def distance(self, said: Said, taught: Said, temperature: float) -> Tensor:
        """The Kullback-Leibler divergence from the teacher's normal distributions; a temperature is for classes."""
        (value, doubt), (wanted, sure) = said, taught
        return 0.5 * (doubt - sure + (torch.exp(sure) + (wanted - value).square()) * torch.exp(-doubt) - 1).mean()

    def calibrate(self, said: Iterator[tuple[Arrays, Said]]) -> None:
        """The factor that makes the deviations as large as the errors are."""
        off = []
        for batch, one in said:
            answer, deviation = self.answers(one)
            off.append(((answer - torch.from_numpy(batch["values"])) / deviation).square())
        self.widening.mul_(torch.cat(off).mean(0).sqrt().clamp(0.05, 20))


def surprise(value: Tensor, doubt: Tensor, wanted: Tensor) -> Tensor:
    """Gaussian negative log-likelihood, each error weighed by the square root of its variance (beta-NLL, Seitzer 2022), which keeps the mean honest.

    All [N, K], `doubt` the logarithms of variances; where `wanted` is nan nothing counts.
    """
    known = ~torch.isnan(wanted)
    error = torch.where(known, wanted, value.detach()) - value
    each = 0.5 * (doubt + error.square() * torch.exp(-doubt)) * torch.exp(doubt / 2).detach()
    return (each * known).sum() / known.sum().clamp(min=1)
