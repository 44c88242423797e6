"""The class of every pixel; rare classes weigh more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.contract.types import Arrays
from usecases.calibration import best_temperature
from usecases.driving_perception.heads.head import Head, Said
from usecases.driving_perception.scenes import IGNORED

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

LOG_OFFSET = (
    1.1  # of the weights 1 / ln(offset + share) (Paszke 2016, who take 1.02): the rarest weighs about seven times the most frequent
)
POOLED = 4  # pixels to a side of what is compared with a teacher
CALIBRATING_PIXELS = 500  # of each frame


class MaskHead(Head):
    """features [N, F, h, w] to logits of every pixel's class, [N, C, H, W], and those they were enlarged from, [N, C, h, w].

    Carries the temperature of its calibration.
    """

    def __init__(self, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(features, classes, 1)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, features: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        coarse = self.classify(self.dropout(features)).float()
        return enlarged(coarse, size), coarse

    def answers(self, said: Said) -> tuple[Tensor, Tensor]:
        """The likeliest class of each pixel, int64 [N, H, W], and its probability, float32 [N, H, W], enlarged from places of the features.

        Of every pixel it would take ONNX Runtime as long as half of the network in int8.
        """
        logits, coarse = said
        scaled = coarse / self.temperature
        # the largest of a softmax that is never written out: over channels that one is slow, too
        sure = 1 / (scaled - scaled.amax(1, keepdim=True)).exp().sum(1, keepdim=True)
        return logits.argmax(1), enlarged(sure, logits.shape[2:])[:, 0]

    def loss(self, said: Said, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        return pixel_loss(said[0], batch["mask"], settings.balance == "log")

    def distance(self, said: Said, taught: Said, temperature: float) -> Tensor:
        """See `channel_wise`."""
        return channel_wise(said[0], taught[0], temperature)

    def calibrate(self, said: Iterator[tuple[Arrays, Said]]) -> None:
        """Temperature scaling on some pixels of each frame."""
        random = np.random.default_rng(0)
        logits, right = [], []
        for batch, (found, _) in said:
            for mask, one in zip(batch["mask"].reshape(len(found), -1), found.flatten(2).transpose(1, 2).numpy(), strict=True):
                known = np.flatnonzero(mask != IGNORED)
                chosen = random.choice(known, min(CALIBRATING_PIXELS, len(known)), replace=False)
                logits.append(one[chosen])
                right.append(mask[chosen, None] == np.arange(one.shape[1]))
        self.temperature.fill_(best_temperature(np.concatenate(logits), np.concatenate(right)))


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """[N, C, h, w] to [N, C, *size]"""
    return F.interpolate(maps, size=list(size), mode="bilinear", align_corners=False)


def channel_wise(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Where a class is rather than what a place is: the distance of each class's map from the teacher's (channel-wise distillation, Shu 2021).

    The maps, [N, C, H, W] at a quarter of their resolution, are softened and made distributions over places; of these the Kullback-Leibler
    divergence, times the temperature's square, so that gradients keep their size.
    """
    found, wanted = (
        F.log_softmax(F.avg_pool2d(maps.float(), POOLED, ceil_mode=True).flatten(2) / temperature, 2) for maps in (logits, taught)
    )
    return F.kl_div(found, wanted, reduction="sum", log_target=True) / found.shape[:2].numel() * temperature**2


def pixel_loss(logits: Tensor, mask: Tensor, balanced: bool) -> Tensor:
    """Weighed cross-entropy; logits [N, C, H, W], mask int64 [N, H, W] with 255 for what counts for nothing; 0 where nothing counts."""
    classes = logits.shape[1]
    counted = mask != IGNORED
    weight = None
    if balanced:
        share = torch.bincount(mask[counted], minlength=classes).float() / counted.sum().clamp(min=1)
        weight = 1 / torch.log(LOG_OFFSET + share)
    total = F.cross_entropy(logits, mask, weight, ignore_index=IGNORED, reduction="sum")
    weighed = counted.sum() if weight is None else weight[mask[counted]].sum()
    return total / weighed.clamp(min=1)
