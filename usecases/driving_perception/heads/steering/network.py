"""The network of the steering head, which predicts histograms of the driver's values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.driving_perception.scenes import conditioning_counts

NARROW, HIDDEN = 12, 64  # channels of the flattened feature map; units of the hidden layer
MAX_CELLS = (8, 10)  # most rows and columns of the flattened feature map
INPUT_DROPOUT = 0.2  # share of the training moments whose speed or earlier yaw rates are dropped, so that requests may omit them
INPUT_SCALE = 5.0  # factor of the standardised inputs: a few numbers among a thousand features would hardly be learnt from
STRIDE = 16  # pixels between positions of the features
BINS, BEYOND = 21, 2  # bins of a histogram; bins beyond the range of the training values at each end
SOFT = 0.75  # standard deviation of the target of one moment, in bins (Farebrother 2024)


class SteeringNetwork(nn.Module):
    """features [N, F, h, w] to logits of histograms [N, K, BINS] (HL-Gauss, Imani 2018; Farebrother 2024).

    Drivers who tap keys steer by 0 and 1, which a histogram fits better than one mean and deviation; the prediction is its mean. With few
    moments the network memorises the images, so that the weight of the image relative to the other inputs (`trust`) is fitted on validation.
    """

    def __init__(self, features: int, dropout: float, card: dict[str, Any]) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(features, NARROW, 1, bias=False), nn.BatchNorm2d(NARROW), nn.ReLU(inplace=True))
        sides = (int(card["height"]), int(card["width"]))
        self.cells = tuple(min(-(-side // STRIDE), most) for side, most in zip(sides, MAX_CELLS, strict=True))
        self.flat = nn.Sequential(nn.Flatten(), nn.Dropout(dropout))
        self.counts = conditioning_counts(card)
        known = NARROW * self.cells[0] * self.cells[1] + 2 * sum(self.counts.values())
        self.hidden = nn.Sequential(nn.Linear(known, HIDDEN), nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.say = nn.Linear(HIDDEN, len(card["ranges"]) * BINS)
        self.steps: Tensor
        self.trust: Tensor
        self.widening: Tensor
        self.usual = {name: tuple(map(float, card[name])) for name in self.counts}  # mean and standard deviation of each input
        self.register_buffer("steps", torch.stack([steps(low, high) for low, high in card["ranges"]]))
        self.register_buffer("trust", torch.ones(()))  # in the image
        self.register_buffer("widening", torch.ones(len(card["ranges"])))

    def forward(self, features: Tensor, **conditioning: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the logits, and the two parts of their input: features of the image, and the standardised conditioning inputs.

        `conditioning` are inputs by name, [N, 2 count] each, see `scenes.with_indicators`; an input that is left out counts as missing.
        """
        x = self.narrow(features)
        if tuple(x.shape[2:]) != self.cells:
            x = F.interpolate(x, size=self.cells, mode="bilinear", align_corners=False)
        picture = self.flat(x)
        inputs = [
            self._standardised(name, conditioning[name] if name in conditioning else x.new_zeros(len(x), 2 * count)).to(x.dtype)
            for name, count in self.counts.items()
        ]
        known = torch.cat([picture[:, :0], *inputs], 1)  # no columns without conditioning inputs
        return self.logits(picture if self.training else self.trust * picture, known), picture, known

    def logits(self, picture: Tensor, known: Tensor) -> Tensor:
        """Logits of histograms, [N, K, BINS], from features of the image and standardised conditioning inputs."""
        return self.say(self.hidden(torch.cat([picture, known], 1))).float().unflatten(1, self.steps.shape)

    def _standardised(self, name: str, values: Tensor) -> Tensor:
        """Standardise a conditioning input, [N, 2 count]; missing numbers become 0. Training drops some numbers at random."""
        count, (mean, deviation) = self.counts[name], self.usual[name]
        number, known = values.unflatten(1, (count, 2)).unbind(2)
        if self.training:
            cut, left = torch.rand(2, len(values), 1, device=values.device)
            known = known * (torch.arange(count, device=values.device) < torch.where(cut < INPUT_DROPOUT, torch.floor(left * count), count))
        return torch.stack([INPUT_SCALE * (number - mean) / deviation * known, known], 2).flatten(1)

    def answers(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Means and calibrated standard deviations of histograms, float32 [N, K] each."""
        likely = torch.softmax(logits, 2)
        value = (likely * self.steps).sum(2)
        variance = (likely * (self.steps - value[..., None]).square()).sum(2)
        return value, variance.sqrt() * self.widening


def steps(low: float, high: float) -> Tensor:
    """The values of the bins, [BINS]: equidistant from `low` to `high` and `BEYOND` bins past each, so that the mean can reach both."""
    step = (high - low) / (BINS - 1 - 2 * BEYOND)
    return torch.linspace(low - BEYOND * step, high + BEYOND * step, BINS)


def histogram_loss(logits: Tensor, steps: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of histograms with narrow Gaussians around the targets (HL-Gauss, Imani 2018).

    Args:
        logits: [N, K, BINS].
        steps: values of the bins, [K, BINS].
        wanted: targets, [N, K]; nan is ignored.

    Returns:
        The mean over the targets, a scalar; 0 without any.
    """
    known = ~torch.isnan(wanted)
    away = (torch.where(known, wanted, 0)[..., None] - steps) / (steps[:, 1:2] - steps[:, :1])
    bell = torch.softmax(-0.5 * (away / SOFT).square(), 2)
    each = -(bell * torch.log_softmax(logits, 2)).sum(2)
    return (each * known).sum() / known.sum().clamp(min=1)
