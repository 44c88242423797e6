"""Boxes without anchors: where the middles of things are, and how far it is from there to their sides (CenterNet, Zhou 2019; TTFNet, Liu 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.contract.types import Arrays
from usecases.convolutions import conv_norm
from usecases.driving_perception.heads.boxes.maps import STRIDE, found_boxes, overlaps
from usecases.driving_perception.heads.head import Head, Said
from usecases.driving_perception.scenes import UNCOUNTED

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

USUAL = 16.0  # pixels: from the middle of a thing to its sides
RARE = 0.01  # probability that a place is a middle, before anything is learnt
MIDDLE = 0.54  # share of a box's sides within which a place is near its middle (Liu 2020)
EXTENT_WEIGHT = 2.0  # of the boxes' overlap beside the middles, as in TTFNet's 5 to 1 for its scale of losses
MATCHED = 0.5  # overlap with a true box from which on a found one is right
FEWEST = 20  # boxes, right and wrong, from which certainty can be learnt


class BoxHead(Head):
    """features [N, F, h, w] at a quarter of the resolution to logits of middles [N, C, h, w] and distances to the sides in pixels [N, 4, h, w]."""

    def __init__(self, features: int, objects: int) -> None:
        super().__init__()
        self.middles = nn.Sequential(conv_norm(features, features), nn.Conv2d(features, objects, 1))
        self.sides = nn.Sequential(conv_norm(features, features), nn.Conv2d(features, 4, 1))
        nn.init.constant_(self.middles[-1].bias, float(np.log(RARE / (1 - RARE))))  # pyright: ignore[reportArgumentType]
        self.slope: Tensor
        self.shift: Tensor
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, features: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return self.middles(features).float(), USUAL * F.softplus(self.sides(features).float())

    def answers(self, said: Said) -> tuple[Tensor, Tensor]:
        """Probabilities that a box of a class has its middle in a place, and left, top, right and bottom of it in pixels; see `boxes.found_boxes`."""
        middles, sides = said
        return torch.sigmoid(middles * self.slope + self.shift), corners(sides)

    def loss(self, said: Said, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        middles, sides = said
        wanted = targets(batch["boxes"], middles.shape[1], (middles.shape[2], middles.shape[3]))
        known = batch["boxed"][:, None, None]
        count = (wanted.heat == 1).sum().clamp(min=1)
        heat = middle_loss(middles, wanted.heat, known & ~wanted.uncounted) / count
        weight = wanted.weight * known
        extent = ((1 - generalised_overlap(corners(sides), wanted.box)) * weight).sum() / weight.sum().clamp(min=1)
        return heat + EXTENT_WEIGHT * extent

    def distance(self, said: Said, taught: Said, temperature: float) -> Tensor:
        """The teacher's middles as soft targets, softened by the temperature, and its boxes where it sees one."""
        (middles, sides), (wanted, box) = said, taught
        heat = torch.sigmoid(wanted / temperature)
        sure = torch.sigmoid(wanted).amax(1)
        off = (torch.sigmoid(middles / temperature) - heat).abs()
        near = F.binary_cross_entropy_with_logits(middles / temperature, heat, reduction="none") * off.detach().square()
        extent = ((1 - generalised_overlap(corners(sides), corners(box))) * sure).sum() / sure.sum().clamp(min=1)
        return near.sum() * temperature**2 / heat.sum().clamp(min=1) + EXTENT_WEIGHT * extent

    def calibrate(self, said: Iterator[tuple[Arrays, Said]]) -> None:
        """Platt scaling (Platt 1999): the logit of a middle to the probability that its box is right."""
        from sklearn.linear_model import LogisticRegression

        logits, right = [], []
        for batch, (middles, sides) in said:
            for truth, heat, box in zip(batch["boxes"], middles.sigmoid().numpy(), corners(sides).numpy(), strict=True):
                found = found_boxes(heat, box)
                near = overlaps(found.boxes, truth[:, 1:]) >= MATCHED
                counted = ~near[:, truth[:, 0] == UNCOUNTED].any(1)
                logits.append(np.log(found.scores / (1 - found.scores))[counted])
                right.append(_first_matches(near & (found.labels[:, None] == truth[:, 0]))[counted])
        x, y = np.concatenate(logits)[:, None], np.concatenate(right)
        if min(y.sum(), (~y).sum()) < FEWEST:
            return
        fitted = LogisticRegression(C=1e3).fit(x, y)
        if fitted.coef_[0, 0] > 0:
            self.slope.fill_(float(fitted.coef_[0, 0]))
            self.shift.fill_(float(fitted.intercept_[0]))


def _first_matches(same: np.ndarray) -> np.ndarray:
    """Which found boxes, the surest first, are the first of a true one; bool [K] of bool [K, M]."""
    right, taken = np.zeros(len(same), dtype=bool), np.zeros(same.shape[1], dtype=bool)
    for row, matches in enumerate(same):
        free = np.flatnonzero(matches & ~taken)
        if len(free):
            taken[free[0]] = right[row] = True
    return right


# -- what is wanted ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Targets:
    """For each place: `heat` [N, C, h, w], 1 in the middle of a box and less around it; the `box` [N, 4, h, w] that it belongs to,
    in pixels, and with which `weight` [N, h, w], that add up to 1 for each box; `uncounted`, bool [N, h, w], whether it counts for nothing.
    """

    heat: Tensor
    box: Tensor
    weight: Tensor
    uncounted: Tensor


def targets(boxes: Tensor, objects: int, size: tuple[int, int]) -> Targets:
    """Args:
    boxes: [N, M, 5], label and sides in pixels; a label below 0 is no box.
    objects: C.
    size: h and w of the places, `STRIDE` pixels apart.
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
    """Gaussian of the distance to the place in the middle between `low` and `high`, [N, M, places]; 0 from a share of the way on."""
    middle = ((low + high) / 2).floor().clamp(0, len(places) - 1)
    reach = ((high - low) / 2 * MIDDLE).floor()
    away = (places - middle[..., None]).abs()
    return torch.exp(-0.5 * (away / ((2 * reach + 1) / 6)[..., None]).square()) * (away <= reach[..., None])


# -- losses -----------------------------------------------------------------------------------------------------------
def middle_loss(logits: Tensor, heat: Tensor, counted: Tensor) -> Tensor:
    """Focal loss that is mild near middles (Law 2018), summed; [N, C, h, w] twice, bool [N, h, w]."""
    likely = logits.sigmoid()
    hit = -F.logsigmoid(logits) * (1 - likely).square() * (heat == 1)
    miss = -F.logsigmoid(-logits) * likely.square() * (1 - heat) ** 4 * (heat < 1)
    return ((hit + miss) * counted[:, None]).sum()


def corners(sides: Tensor) -> Tensor:
    """Distances from each place to left, top, right and bottom, in pixels, to where these are; [N, 4, h, w]."""
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
