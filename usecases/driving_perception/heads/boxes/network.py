"""The anchor-free detection network, its targets and its losses (CenterNet, Zhou 2019; TTFNet, Liu 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.convolutions import conv_norm
from usecases.driving_perception.heads.boxes.maps import STRIDE
from usecases.driving_perception.scenes import NOTHING, UNCOUNTED
from usecases.driving_perception.window import View

SCALE = 16.0  # pixels: typical distance from a centre to the sides of a box
PRIOR = 0.01  # initial probability that a position is a centre (Lin 2017)
CENTRE_SHARE = 0.54  # share of a box's width and height that the Gaussian around its centre covers (Liu 2020)
MIN_VISIBLE = 0.3  # share of a box that must be left by cropping; a smaller rest is ignored


class BoxNetwork(nn.Module):
    """features [N, F, h, w] at a quarter of the resolution to logits of centres [N, C, h, w] and side distances in pixels [N, 4, h, w].

    The side distances are those from a position to left, top, right and bottom of its box, as in FCOS (Tian 2019). The buffers `slope` and
    `shift` are fitted by calibration.
    """

    def __init__(self, features: int, objects: int) -> None:
        super().__init__()
        centres = nn.Sequential(conv_norm(features, features), nn.Conv2d(features, objects, 1))
        self.add_module("middles", centres)  # the name that stored weights have
        self.sides = nn.Sequential(conv_norm(features, features), nn.Conv2d(features, 4, 1))
        nn.init.constant_(centres[-1].bias, float(np.log(PRIOR / (1 - PRIOR))))  # pyright: ignore[reportArgumentType]
        self.slope: Tensor
        self.shift: Tensor
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, features: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return self.get_submodule("middles")(features).float(), SCALE * F.softplus(self.sides(features).float())


def cut_boxes(boxes: Tensor, view: View) -> Tensor:
    """Boxes [N, M, 5] in pixels of images to pixels of their windows; boxes outside are removed, and those mostly outside are ignored."""
    sides = boxes[..., 1:].unflatten(-1, (2, 2))  # [N, M, 2 corners, x and y]
    old, new = (torch.tensor([shape[1], shape[0]], device=boxes.device, dtype=boxes.dtype) for shape in (view.size, view.out))
    stretch = view.window.scale.clone()
    stretch[:, 0] *= view.window.flip
    moved = ((2 * sides / old - 1 - view.window.shift[:, None, None]) / stretch[:, None, None] + 1) / 2 * new
    low, high = moved.min(2).values, moved.max(2).values
    seen_low, seen_high = low.clamp(min=0).minimum(new), high.clamp(min=0).minimum(new)
    left = (seen_high - seen_low).prod(-1) / (high - low).prod(-1).clamp(min=1e-6)
    label = torch.where((left < MIN_VISIBLE) & (boxes[..., 0] >= 0), float(UNCOUNTED), boxes[..., 0])
    label = torch.where(left <= 0, float(NOTHING), label)
    return torch.cat([label[..., None], seen_low, seen_high], -1)


# -- targets ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Targets:
    """Targets of each position.

    `heat` [N, C, h, w] is 1 at the centre of a box and falls off around it; `box` [N, 4, h, w] is the box that a position belongs to, in
    pixels, with `weight` [N, h, w], which sums to 1 for each box; `uncounted`, bool [N, h, w], are positions that the loss ignores.
    """

    heat: Tensor
    box: Tensor
    weight: Tensor
    uncounted: Tensor


def targets(boxes: Tensor, objects: int, size: tuple[int, int]) -> Targets:
    """The training targets of boxes.

    Args:
        boxes: [N, M, 5], label and sides in pixels; a label below 0 is no box.
        objects: number of classes, C.
        size: h and w of the network's outputs, whose positions are `STRIDE` pixels apart.

    Returns:
        The targets.
    """
    rows, columns = (torch.arange(side, device=boxes.device, dtype=torch.float32) for side in size)
    label, sides = boxes[..., 0].long(), boxes[..., 1:].float()
    there = label >= 0
    cells = sides / STRIDE
    near = [_bell(columns, cells[..., 0], cells[..., 2])[..., None, :], _bell(rows, cells[..., 1], cells[..., 3])[..., :, None]]
    bell = near[0] * near[1] * there[..., None, None]  # [N, M, h, w]
    heat = torch.zeros(len(boxes), objects, *size, device=boxes.device)
    heat.scatter_reduce_(1, label.clamp(min=0)[..., None, None].expand_as(bell), bell, "amax")
    strength, owner = bell.max(1)
    box = sides.gather(1, owner.flatten(1)[..., None].expand(-1, -1, 4)).transpose(1, 2).reshape(len(boxes), 4, *size)
    owned = bell * (owner[:, None] == torch.arange(bell.shape[1], device=boxes.device)[:, None, None])
    weight = (owned / owned.sum((2, 3), keepdim=True).clamp(min=1e-6)).sum(1) * (strength > 0)
    across = (columns + 0.5 >= cells[..., 0, None]) & (columns + 0.5 <= cells[..., 2, None])
    down = (rows + 0.5 >= cells[..., 1, None]) & (rows + 0.5 <= cells[..., 3, None])
    hidden = (across[..., None, :] & down[..., :, None] & (label == UNCOUNTED)[..., None, None]).any(1) & (strength < 1)
    return Targets(heat, box, weight, hidden)


def _bell(places: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """A Gaussian around the centre between `low` and `high`, [N, M, places]; 0 beyond the share `CENTRE_SHARE` of the way to the sides."""
    middle = ((low + high) / 2).floor().clamp(0, len(places) - 1)
    reach = ((high - low) / 2 * CENTRE_SHARE).floor()
    away = (places - middle[..., None]).abs()
    return torch.exp(-0.5 * (away / ((2 * reach + 1) / 6)[..., None]).square()) * (away <= reach[..., None])


# -- losses -----------------------------------------------------------------------------------------------------------
def centre_loss(logits: Tensor, heat: Tensor, counted: Tensor) -> Tensor:
    """Penalty-reduced focal loss of centre heatmaps (CornerNet, Law 2018).

    Args:
        logits: of centres, [N, C, h, w].
        heat: their targets in [0, 1], [N, C, h, w].
        counted: positions that count, bool [N, h, w].

    Returns:
        The sum over all positions, a scalar.
    """
    likely = logits.sigmoid()
    hit = -F.logsigmoid(logits) * (1 - likely).square() * (heat == 1)
    miss = -F.logsigmoid(-logits) * likely.square() * (1 - heat) ** 4 * (heat < 1)
    return ((hit + miss) * counted[:, None]).sum()


def corners(sides: Tensor) -> Tensor:
    """Convert the side distances of each position to left, top, right and bottom of its box, in pixels; [N, 4, h, w] both."""
    height, width = sides.shape[2:]
    x = (torch.arange(width, device=sides.device, dtype=sides.dtype) + 0.5) * STRIDE
    y = (torch.arange(height, device=sides.device, dtype=sides.dtype) + 0.5) * STRIDE
    left, top, right, bottom = sides.unbind(1)
    return torch.stack([x - left, y[:, None] - top, x + right, y[:, None] + bottom], 1)


def generalised_overlap(one: Tensor, other: Tensor) -> Tensor:
    """Generalised intersection over union (Rezatofighi 2019) of boxes [N, 4, ...], in [-1, 1]."""
    (a, b, c, d), (e, f, g, h) = one.unbind(1), other.unbind(1)
    shared = _area(torch.maximum(a, e), torch.maximum(b, f), torch.minimum(c, g), torch.minimum(d, h))
    union = (_area(a, b, c, d) + _area(e, f, g, h) - shared).clamp(min=1e-6)
    hull = _area(torch.minimum(a, e), torch.minimum(b, f), torch.maximum(c, g), torch.maximum(d, h)).clamp(min=1e-6)
    return shared / union - (hull - union) / hull


def _area(left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    return (right - left).clamp(min=0) * (bottom - top).clamp(min=0)
