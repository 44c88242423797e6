"""The network and the losses of masks; rare classes weigh more."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.driving_perception.scenes import IGNORED
from usecases.driving_perception.window import View

LOG_OFFSET = 1.1
"""Of the weights 1 / ln(offset + share) (Paszke 2016, who take 1.02): the rarest weighs about seven times the most frequent."""
POOLED = 4  # pixels to a side of what is compared with a teacher


class MaskNetwork(nn.Module):
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


def cut_mask(mask: Tensor, view: View) -> Tensor:
    """uint8 [N, H, W] to int64 [N, *view.out]; beyond the picture nothing counts."""
    inverse = (IGNORED - mask.float())[:, None]  # so that what is beyond, zero, is ignored
    return IGNORED - F.grid_sample(inverse, view.window.grid(view.out), "nearest", "zeros", align_corners=False)[:, 0].round().long()


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
