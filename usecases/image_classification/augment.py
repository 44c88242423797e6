"""Augmentation of float batches [N, C, H, W] in [0, 1] on their device, with torch's global random generator."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Policy = Literal["none", "trivial", "rand"]


@cache
def augmentation(mirror: bool, shift: float, colour: float, erase: float, policy: Policy, channels: int) -> nn.Module:
    """The augmentation of the settings; the same settings give the same module.

    Args:
        mirror: whether to flip half of the images horizontally.
        shift: largest shift, as a share of the side; 0: off.
        colour: strength of the colour jitter; 0: off, and ignored for grey images.
        erase: side of the erased square, as a share of the side; 0: off.
        policy: TrivialAugment (Müller 2021) or RandAugment (Cubuk 2020).
        channels: of the images, 1 or 3.

    Returns:
        A module from [N, C, H, W] to [N, C, H, W].
    """
    steps: list[nn.Module] = [Mirror()] if mirror else []
    steps += [Shift(shift)] if shift else []
    steps += _from_kornia(colour if channels == 3 else 0.0, policy, channels)
    steps += [Erase(erase)] if erase else []
    return nn.Sequential(*steps)


def _from_kornia(colour: float, policy: Policy, channels: int) -> list[nn.Module]:
    if not colour and policy == "none":
        return []  # kornia takes a second to import
    from kornia.augmentation import ColorJiggle
    from kornia.augmentation.auto import RandAugment, TrivialAugment

    steps: list[nn.Module] = [ColorJiggle(colour, colour, colour, colour / 4)] if colour else []
    if policy != "none":
        chosen = TrivialAugment() if policy == "trivial" else RandAugment(n=2, m=10)
        steps.append(chosen if channels == 3 else AsColour(chosen))
    return steps


class AsColour(nn.Module):
    """Applies an augmentation of RGB images to grey images."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image.expand(-1, 3, -1, -1)).mean(dim=1, keepdim=True)


class Mirror(nn.Module):
    """Flips half of the images horizontally."""

    def forward(self, image: Tensor) -> Tensor:
        mirrored = torch.rand(len(image), 1, 1, 1, device=image.device) < 0.5
        return torch.where(mirrored, image.flip(3), image)


class Shift(nn.Module):
    """Shifts each image by whole pixels, with reflected edges: a batched random crop of padded images."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, image: Tensor) -> Tensor:
        count, _, height, width = image.shape
        most = max(1, round(min(height, width) * self.share))
        padded = F.pad(image, (most,) * 4, mode="reflect" if most < min(height, width) else "replicate")
        down, right = torch.randint(0, 2 * most + 1, (2, count, 1), device=image.device)
        rows = (down + torch.arange(height, device=image.device))[:, None, :, None]
        columns = (right + torch.arange(width, device=image.device))[:, None, None, :]
        return padded[
            torch.arange(count, device=image.device)[:, None, None, None],
            torch.arange(image.shape[1], device=image.device)[None, :, None, None],
            rows,
            columns,
        ]


class Erase(nn.Module):
    """Cutout (DeVries 2017): hides a grey square, so that the class does not depend on a single detail."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, image: Tensor) -> Tensor:
        count, _, height, width = image.shape
        hidden = _near(count, height, self.share, image.device)[:, :, None] & _near(count, width, self.share, image.device)[:, None, :]
        return image.masked_fill(hidden[:, None], 0.5)


def _near(count: int, side: int, share: float, device: torch.device) -> Tensor:
    centre = torch.randint(0, side, (count, 1), device=device)
    return (torch.arange(side, device=device) - centre).abs() < side * share / 2


def mix(image: Tensor, label: Tensor, classes: int, mixup: float, cutmix: float, smoothing: float) -> tuple[Tensor, Tensor]:
    """Apply label smoothing, and mixup (Zhang 2018) or CutMix (Yun 2019); where both are on, one of them at random per batch.

    Args:
        image: float [N, C, H, W].
        label: int64 [N].
        classes: number of classes.
        mixup: alpha of mixup's Beta distribution; 0: off.
        cutmix: alpha of CutMix's Beta distribution; 0: off.
        smoothing: target probability that is spread over all classes.

    Returns:
        The images, and soft targets [N, classes].
    """
    target = F.one_hot(label, classes).float() * (1 - smoothing) + smoothing / classes
    if not mixup and not cutmix:
        return image, target
    cut = bool(cutmix) and (not mixup or bool(torch.rand(()) < 0.5))
    alpha = cutmix if cut else mixup
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(image), device=image.device)
    if not cut:
        return image.lerp(image[other], 1 - share), target.lerp(target[other], 1 - share)
    image, share = _paste(image, image[other], share)
    return image, target.lerp(target[other], 1 - share)


def _paste(image: Tensor, other: Tensor, share: float) -> tuple[Tensor, float]:
    """Paste a box of `other`, of area 1 - share, into the image; also returns the share that is left after rounding to pixels."""
    height, width = image.shape[2:]
    tall, wide = round(height * (1 - share) ** 0.5), round(width * (1 - share) ** 0.5)
    top, left = int(torch.randint(0, height - tall + 1, ())), int(torch.randint(0, width - wide + 1, ()))
    pasted = image.clone()
    pasted[:, :, top : top + tall, left : left + wide] = other[:, :, top : top + tall, left : left + wide]
    return pasted, 1 - tall * wide / (height * width)
