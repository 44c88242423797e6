"""The network of steering: histograms of what a driver would do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.driving_perception.scenes import counts_told

NARROW, HIDDEN = 12, 64  # channels that keep their place in the picture; numbers before the last layer
MOST_CELLS = (8, 10)  # rows and columns of places that are told apart
UNTOLD = 0.2  # share of the moments of training whose speed or earlier turns are kept back, so that a request may leave them out
HEARD = 5.0  # deviations of what is told for one of the picture's: a single number among a thousand would hardly be learnt from
STRIDE = 16  # of the features, in pixels
BINS, BEYOND = 21, 2  # steps of a value; how many of them lie beyond what was driven, at each end
SOFT = 0.75  # deviation of what one moment teaches, in steps (Farebrother 2024)


class SteeringNetwork(nn.Module):
    """features [N, F, h, w] to how likely each step of every value is: logits [N, K, BINS] (HL-Gauss, Imani 2018; Farebrother 2024).

    Who taps keys steers by 0 and 1: one mean and deviation fit that worse than a histogram, whose mean is what is said. Of few moments a network
    learns the pictures by heart, and less of them says more: how far they are trusted beside what is told is chosen by validation.
    """

    def __init__(self, features: int, dropout: float, card: dict[str, Any]) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(features, NARROW, 1, bias=False), nn.BatchNorm2d(NARROW), nn.ReLU(inplace=True))
        sides = (int(card["height"]), int(card["width"]))
        self.cells = tuple(min(-(-side // STRIDE), most) for side, most in zip(sides, MOST_CELLS, strict=True))
        self.flat = nn.Sequential(nn.Flatten(), nn.Dropout(dropout))
        self.counts = counts_told(card)
        known = NARROW * self.cells[0] * self.cells[1] + 2 * sum(self.counts.values())
        self.hidden = nn.Sequential(nn.Linear(known, HIDDEN), nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.say = nn.Linear(HIDDEN, len(card["ranges"]) * BINS)
        self.steps: Tensor
        self.trust: Tensor
        self.widening: Tensor
        self.usual = {name: tuple(map(float, card[name])) for name in self.counts}  # mean and deviation
        self.register_buffer("steps", torch.stack([steps(low, high) for low, high in card["ranges"]]))
        self.register_buffer("trust", torch.ones(()))  # in the picture
        self.register_buffer("widening", torch.ones(len(card["ranges"])))

    def forward(self, features: Tensor, **told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`told` [N, 2 count] each as `scenes.told` says; what is left out is not known. Behind the logits what they are said by: of the picture, and what is told."""
        x = self.narrow(features)
        if tuple(x.shape[2:]) != self.cells:
            x = F.interpolate(x, size=self.cells, mode="bilinear", align_corners=False)
        picture = self.flat(x)
        beside = [
            self._standardised(name, told[name] if name in told else x.new_zeros(len(x), 2 * count)).to(x.dtype)
            for name, count in self.counts.items()
        ]
        known = torch.cat([picture[:, :0], *beside], 1)  # of no columns where nothing is told
        return self.logits(picture if self.training else self.trust * picture, known), picture, known

    def logits(self, picture: Tensor, known: Tensor) -> Tensor:
        return self.say(self.hidden(torch.cat([picture, known], 1))).float().unflatten(1, self.steps.shape)

    def _standardised(self, name: str, told: Tensor) -> Tensor:
        """[N, 2 count]: numbers in deviations from the mean where they are known, else 0; and whether they are. In training fewer are, sometimes."""
        count, (mean, deviation) = self.counts[name], self.usual[name]
        number, known = told.unflatten(1, (count, 2)).unbind(2)
        if self.training:
            cut, left = torch.rand(2, len(told), 1, device=told.device)
            known = known * (torch.arange(count, device=told.device) < torch.where(cut < UNTOLD, torch.floor(left * count), count))
        return torch.stack([HEARD * (number - mean) / deviation * known, known], 2).flatten(1)

    def answers(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of histograms, float32 [N, K] each."""
        likely = torch.softmax(logits, 2)
        value = (likely * self.steps).sum(2)
        variance = (likely * (self.steps - value[..., None]).square()).sum(2)
        return value, variance.sqrt() * self.widening


def steps(low: float, high: float) -> Tensor:
    """[BINS]: values at equal distances from `low` to `high`, and `BEYOND` of them past each, so that the mean of a histogram can reach both."""
    step = (high - low) / (BINS - 1 - 2 * BEYOND)
    return torch.linspace(low - BEYOND * step, high + BEYOND * step, BINS)


def histogram_loss(logits: Tensor, steps: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of histograms, logits [N, K, BINS], with narrow bells around what is `wanted`, [N, K]; where that is nan nothing counts."""
    known = ~torch.isnan(wanted)
    away = (torch.where(known, wanted, 0)[..., None] - steps) / (steps[:, 1:2] - steps[:, :1])
    bell = torch.softmax(-0.5 * (away / SOFT).square(), 2)
    each = -(bell * torch.log_softmax(logits, 2)).sum(2)
    return (each * known).sum() / known.sum().clamp(min=1)
