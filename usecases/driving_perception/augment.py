"""Augmentation that keeps image and mask together, on their device. All draws come from torch's global generator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from usecases.driving_perception.scenes import IGNORED

STEP = 16  # pixels: sides that the network halves without rest


def cut(image: Tensor, mask: Tensor, crop: float, zoom: float, mirror: bool) -> tuple[Tensor, Tensor]:
    """A part of each picture, enlarged or shrunk, half of them mirrored; beyond the picture the mask is ignored.

    Args:
        image: float [N, 3, H, W].
        mask: uint8 [N, H, W].
        crop: side of the part, as a share of the image's.
        zoom: most that the part is enlarged or shrunk by.
        mirror: whether half are mirrored.
    """
    count, _, height, width = image.shape
    out = [max(STEP, round(crop * side / STEP) * STEP) for side in (height, width)]
    factor = torch.exp((2 * torch.rand(count, device=image.device) - 1) * torch.log(torch.tensor(1.0 + zoom)))
    scale = torch.stack([out[1] / width / factor, out[0] / height / factor], 1)  # [N, 2] x and y, of the half side
    shift = (2 * torch.rand(count, 2, device=image.device) - 1) * (1 - scale).abs()
    flip = torch.where(torch.rand(count, device=image.device) < 0.5, -1.0, 1.0) if mirror else torch.ones(count, device=image.device)
    theta = torch.zeros(count, 2, 3, device=image.device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale[:, 0] * flip, scale[:, 1], shift
    grid = F.affine_grid(theta, [count, 3, *out], align_corners=False)
    cut_image = F.grid_sample(image, grid, "bilinear", "reflection", align_corners=False)
    inverse = (IGNORED - mask.float())[:, None]  # so that what is beyond the picture, nought, is ignored
    return cut_image, IGNORED - F.grid_sample(inverse, grid, "nearest", "zeros", align_corners=False)[:, 0].round().long()


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
