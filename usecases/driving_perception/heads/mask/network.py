"""The network and the losses of segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.driving_perception.scenes import IGNORED
from usecases.driving_perception.window import View

LOG_OFFSET = 1.1
"""Offset of the class weights 1 / ln(offset + share) (ENet, Paszke 2016, with 1.02 there): the rarest class weighs about seven times the most frequent."""
POOLED = 4  # pixels: side of the average pooling before a comparison with a teacher


class MaskNetwork(nn.Module):
    """features [N, F, h, w] to logits of every pixel's class, [N, C, H, W], and the logits [N, C, h, w] that they are interpolated from.

    Its buffer `temperature` is fitted by calibration.
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
    """Crop masks to the windows of a view, uint8 [N, H, W] to int64 [N, *view.out]; pixels beyond the image are ignored."""
    inverse = (IGNORED - mask.float())[:, None]  # so that the padding with 0 becomes IGNORED
    return IGNORED - F.grid_sample(inverse, view.window.grid(view.out), "nearest", "zeros", align_corners=False)[:, 0].round().long()


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear interpolation of [N, C, h, w] to [N, C, *size]."""
    return F.interpolate(maps, size=list(size), mode="bilinear", align_corners=False)


def channel_wise(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Channel-wise knowledge distillation (Shu 2021): compare for each class its distribution over the positions with the teacher's.

    The logits are pooled to a quarter of their resolution and softened. The Kullback-Leibler divergence is multiplied by the squared
    temperature, so that gradients keep their scale.

    Args:
        logits: of the student, [N, C, H, W].
        teacher: logits of the teacher, [N, C, H, W].
        temperature: that logits are divided by.

    Returns:
        A scalar.
    """
    found, wanted = (
        F.log_softmax(F.avg_pool2d(maps.float(), POOLED, ceil_mode=True).flatten(2) / temperature, 2) for maps in (logits, teacher)
    )
    return F.kl_div(found, wanted, reduction="sum", log_target=True) / found.shape[:2].numel() * temperature**2


def pixel_loss(logits: Tensor, mask: Tensor, balanced: bool) -> Tensor:
    """Cross-entropy over the pixels, weighted by class if `balanced`.

    Args:
        logits: [N, C, H, W].
        mask: int64 [N, H, W]; pixels of 255 are ignored.
        balanced: whether rare classes of the batch weigh more (ENet, Paszke 2016).

    Returns:
        A scalar; 0 if all pixels are ignored.
    """
    classes = logits.shape[1]
    counted = mask != IGNORED
    weight = None
    if balanced:
        share = torch.bincount(mask[counted], minlength=classes).float() / counted.sum().clamp(min=1)
        weight = 1 / torch.log(LOG_OFFSET + share)
    total = F.cross_entropy(logits, mask, weight, ignore_index=IGNORED, reduction="sum")
    total_weight = counted.sum() if weight is None else weight[mask[counted]].sum()
    return total / total_weight.clamp(min=1)
