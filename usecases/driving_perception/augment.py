"""Augmentation of images together with their labels on their device, with torch's global random generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.window import View, cut, draw_window, rotated

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

STEP = 16  # pixels: sides are multiples of it, so that the network can halve them
BLURRED = 0.5  # share of crops that are blurred
COARSE = 0.4  # share of the resolution that is left by the strongest blur


def augmented(settings: DrivingPerception, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Augment a batch: random crops, scale, flips and colours, with the labels of every head adapted.

    Images that a head needs whole, such as those with a steering, are only flipped; if a dense head is trained too, half of them are cropped
    as well. Crops have the share `settings.crop` of the image's side if all heads are dense, else that of the whole image. Crops of signs
    and lights are rotated, stretched and blurred, but not flipped, which might change their class.
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
    crops = [frames for head in heads if (frames := head.are_crops(batch)) is not None]
    if crops:
        alone = torch.stack(crops).any(0)
        window = rotated(window, alone)
    view = View(window, size, (height, width), steady)
    seen = {**batch, "image": recoloured(cut(image, window, view.out), settings.colour)}
    if crops:
        seen["image"] = blurred(seen["image"], alone)
    for head in heads:
        seen |= head.augment(batch, view)
    return seen


def blurred(image: Tensor, chosen: Tensor) -> Tensor:
    """Blur some of the images that are `chosen`, bool [N], as if they were taken from a distance; float [N, 3, H, W]."""
    size = image.shape[2:]
    small = F.interpolate(image, size=[max(1, round(COARSE * side)) for side in size], mode="area")
    coarse = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    random = torch.rand(2, len(image), device=image.device)
    strength = (random[0] * (random[1] < BLURRED) * chosen)[:, None, None, None]
    return image + strength * (coarse - image)


def recoloured(image: Tensor, strength: float) -> Tensor:
    """Colour jitter: brightness, contrast, saturation, gamma and each channel change by up to `strength`; float [N, 3, H, W] in [0, 1]."""
    if not strength:
        return image

    def around_one(*shape: int) -> Tensor:
        return 1 + strength * (2 * torch.rand(len(image), *shape, 1, 1, device=image.device) - 1)

    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * around_one(1)
    middle = image.mean((1, 2, 3), keepdim=True)
    image = (middle + (image - middle) * around_one(1)) * around_one(1) * (1 + 0.3 * (around_one(3) - 1))
    return image.clamp(1e-4, 1) ** around_one(1)
