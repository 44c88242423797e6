"""Augmentation that keeps a picture and what is known of it together, on their device. All draws come from torch's global generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.window import View, cut, draw_window, turned

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

STEP = 16  # pixels: sides that the network halves without rest
BLURRED = 0.5  # share of cut-outs that is blurred
COARSE = 0.4  # of the resolution, that is left where a picture is blurred most


def augmented(settings: DrivingPerception, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parts of the pictures, enlarged or shrunk, mirrored and in other colours, with the labels of every head as they are then.

    A picture that a head must see whole, such as one whose steering is known, is left as it is, but for being mirrored; where a dense head
    is learnt too, half the time it is cut as well. Parts are smaller than their pictures, by `settings.crop`, where all heads are dense.
    A cut-out is rotated, stretched and blurred, but not mirrored: a sign might mean something else.
    """
    heads = [head for head in HEADS.values() if head.arrays[0] in batch]
    image = batch["image"].float() / 255
    none = torch.zeros(len(image), dtype=torch.bool, device=image.device)
    steady, alone = none, none
    kept = [frames for head in heads if (frames := head.keeps_view(batch)) is not None]
    if kept:
        steady = torch.stack(kept).any(0)
        if any(head.dense for head in heads):
            steady = steady & (torch.rand(len(image), device=image.device) < 0.5)
    size = (image.shape[2], image.shape[3])
    crop = settings.crop if all(head.dense for head in heads) else 1.0
    height, width = (side if crop == 1 else max(STEP, round(crop * side / STEP) * STEP) for side in size)
    window = draw_window(size, (height, width), settings.zoom, settings.mirror, steady)
    cut_outs = [frames for head in heads if (frames := head.are_cut_outs(batch)) is not None]
    if cut_outs:
        alone = torch.stack(cut_outs).any(0)
        window = turned(window, alone)
    view = View(window, size, (height, width), steady)
    seen = {**batch, "image": recoloured(cut(image, window, view.out), settings.colour)}
    if cut_outs:
        seen["image"] = blurred(seen["image"], alone)
    for head in heads:
        seen |= head.augment(batch, view)
    return seen


def blurred(image: Tensor, chosen: Tensor) -> Tensor:
    """Where chosen, bool [N], some pictures as if they had been taken from afar; float [N, 3, H, W]."""
    size = image.shape[2:]
    small = F.interpolate(image, size=[max(1, round(COARSE * side)) for side in size], mode="area")
    coarse = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    random = torch.rand(2, len(image), device=image.device)
    strength = (random[0] * (random[1] < BLURRED) * chosen)[:, None, None, None]
    return image + strength * (coarse - image)


def recoloured(image: Tensor, strength: float) -> Tensor:
    """Light, contrast, saturation and the tone of each channel changed by up to a share `strength` each; float [N, 3, H, W] in [0, 1]."""
    if not strength:
        return image

    def around_one(*shape: int) -> Tensor:
        return 1 + strength * (2 * torch.rand(len(image), *shape, 1, 1, device=image.device) - 1)

    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * around_one(1)
    middle = image.mean((1, 2, 3), keepdim=True)
    image = (middle + (image - middle) * around_one(1)) * around_one(1) * (1 + 0.3 * (around_one(3) - 1))
    return image.clamp(1e-4, 1) ** around_one(1)
