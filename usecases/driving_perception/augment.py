"""Augmentation that keeps a picture and what is known of it together, on their device. All draws come from torch's global generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from usecases.driving_perception.scenes import IGNORED, NOTHING, UNCOUNTED

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

STEP = 16  # pixels: sides that the network halves without rest
TURN, STRETCH, BLURRED = 0.2, 0.2, 0.5  # of signs and lights: most radians, most change of the sides' ratio, and the share that is blurred
COARSE = 0.4  # of the resolution, that is left where a picture is blurred most
LEAST_SEEN = 0.3  # share of a box that must be left for it to be looked for


def augmented(settings: DrivingPerception, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parts of the pictures, enlarged or shrunk, mirrored and in other colours, with masks, boxes and steering as they are then.

    A picture whose steering is known is left as the driver saw it, but for being mirrored; where masks or boxes are learnt too, half the time
    it is cut as well, and its steering is unknown then. A sign or light by itself is turned, stretched and blurred, but not mirrored: it might
    mean something else.
    """
    image = batch["image"].float() / 255
    others = bool({"mask", "boxes"} & batch.keys())
    steady = torch.zeros(len(image), dtype=torch.bool, device=image.device)
    if "values" in batch:
        steady = ~torch.isnan(batch["values"]).any(1)
        if others:
            steady &= torch.rand(len(image), device=image.device) < 0.5
    size = image.shape[2:]
    crop = 1.0 if {"values", "signal"} & batch.keys() else settings.crop
    out = [side if crop == 1 else max(STEP, round(crop * side / STEP) * STEP) for side in size]
    window = draw_window(size, out, settings.zoom, settings.mirror, steady)
    alone = batch["signal"] != NOTHING if "signal" in batch else torch.zeros_like(steady)
    if "signal" in batch:
        window = turned(window, alone)
    seen = {**batch, "image": recoloured(cut(image, window, out), settings.colour)}
    if "signal" in batch:
        seen["image"] = blurred(seen["image"], alone)
    if "mask" in batch:
        seen["mask"] = cut_mask(batch["mask"], window, out)
    if "boxes" in batch:
        seen["boxes"] = cut_boxes(batch["boxes"], window, size, out)
    if "values" in batch:
        sign = torch.ones_like(batch["values"])
        sign[:, 0] = window.flip
        if "turn" in batch:
            flips = torch.stack([window.flip, torch.ones_like(window.flip)], 1)
            seen["turn"] = batch["turn"] * flips.repeat(1, batch["turn"].shape[1] // 2)
        seen["values"] = torch.where(steady[:, None], batch["values"] * sign, torch.nan)
    return seen


@dataclass(frozen=True)
class Window:
    """The part of each picture that is seen, of [-1, 1] each way: half its sides `scale` [N, 2] and its middle `shift` [N, 2], x and y; `flip` [N] is -1 where mirrored, `turn` [N] radians."""

    scale: Tensor
    shift: Tensor
    flip: Tensor
    turn: Tensor

    def grid(self, out: Sequence[int]) -> Tensor:
        theta = torch.zeros(len(self.scale), 2, 3, device=self.scale.device)
        (across, down), (cos, sin) = self.scale.unbind(1), (self.turn.cos(), self.turn.sin())
        theta[:, 0, 0], theta[:, 0, 1] = across * cos * self.flip, -across * sin
        theta[:, 1, 0], theta[:, 1, 1], theta[:, :, 2] = down * sin * self.flip, down * cos, self.shift
        return F.affine_grid(theta, [len(theta), 1, *out], align_corners=False)


def draw_window(size: Sequence[int], out: Sequence[int], zoom: float, mirror: bool, steady: Tensor) -> Window:
    """Args:
    size: height and width of the pictures.
    out: height and width of the parts, before they are enlarged.
    zoom: most that a part is enlarged or shrunk by.
    mirror: whether half are mirrored.
    steady: which are seen whole, bool [N].
    """
    count, device, whole = len(steady), steady.device, steady[:, None]
    factor = torch.exp((2 * torch.rand(count, device=device) - 1) * torch.log(torch.tensor(1.0 + zoom)))
    scale = torch.stack([out[1] / size[1] / factor, out[0] / size[0] / factor], 1)
    shift = (2 * torch.rand(count, 2, device=device) - 1) * (1 - scale).abs()
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0) if mirror else torch.ones(count, device=device)
    return Window(torch.where(whole, 1.0, scale), torch.where(whole, 0.0, shift), flip, torch.zeros(count, device=device))


def turned(window: Window, chosen: Tensor) -> Window:
    """Where chosen, bool [N], turned and stretched at random, and not mirrored."""
    turn, stretch = 2 * torch.rand(2, len(chosen), device=chosen.device) - 1
    across = torch.exp(stretch * torch.log(torch.tensor(1 + STRETCH)) / 2)
    return Window(
        torch.where(chosen[:, None], window.scale * torch.stack([across, 1 / across], 1), window.scale),
        window.shift,
        torch.where(chosen, 1.0, window.flip),
        torch.where(chosen, turn * TURN, window.turn),
    )


def blurred(image: Tensor, chosen: Tensor) -> Tensor:
    """Where chosen, bool [N], some pictures as if they had been taken from afar; float [N, 3, H, W]."""
    size = image.shape[2:]
    small = F.interpolate(image, size=[max(1, round(COARSE * side)) for side in size], mode="area")
    coarse = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    random = torch.rand(2, len(image), device=image.device)
    strength = (random[0] * (random[1] < BLURRED) * chosen)[:, None, None, None]
    return image + strength * (coarse - image)


def cut(image: Tensor, window: Window, out: Sequence[int]) -> Tensor:
    """float [N, 3, H, W] to [N, 3, *out]; beyond the picture it is mirrored."""
    return F.grid_sample(image, window.grid(out), "bilinear", "reflection", align_corners=False)


def cut_mask(mask: Tensor, window: Window, out: Sequence[int]) -> Tensor:
    """uint8 [N, H, W] to int64 [N, *out]; beyond the picture nothing counts."""
    inverse = (IGNORED - mask.float())[:, None]  # so that what is beyond, nought, is ignored
    return IGNORED - F.grid_sample(inverse, window.grid(out), "nearest", "zeros", align_corners=False)[:, 0].round().long()


def cut_boxes(boxes: Tensor, window: Window, size: Sequence[int], out: Sequence[int]) -> Tensor:
    """[N, M, 5] in pixels of `size` (height, width) to pixels of `out`; what is hardly seen any more counts for nothing, what is not seen is gone."""
    sides = boxes[..., 1:].unflatten(-1, (2, 2))  # [N, M, 2 corners, x and y]
    old, new = (torch.tensor([shape[1], shape[0]], device=boxes.device, dtype=boxes.dtype) for shape in (size, out))
    stretch = window.scale.clone()
    stretch[:, 0] *= window.flip
    moved = ((2 * sides / old - 1 - window.shift[:, None, None]) / stretch[:, None, None] + 1) / 2 * new
    low, high = moved.min(2).values, moved.max(2).values
    seen_low, seen_high = low.clamp(min=0).minimum(new), high.clamp(min=0).minimum(new)
    left = (seen_high - seen_low).prod(-1) / (high - low).prod(-1).clamp(min=1e-6)
    label = torch.where((left < LEAST_SEEN) & (boxes[..., 0] >= 0), float(UNCOUNTED), boxes[..., 0])
    label = torch.where(left <= 0, float(NOTHING), label)
    return torch.cat([label[..., None], seen_low, seen_high], -1)


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
