"""What is learnt: the class of every pixel; rare classes weigh more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.usecase import Examples
from usecases.calibration import best_temperature
from usecases.driving_perception.augment import cut, recoloured
from usecases.driving_perception.network import RoadNetwork
from usecases.driving_perception.scenes import IGNORED

if TYPE_CHECKING:
    from usecases.driving_perception import DrivingPerception

LOG_OFFSET = (
    1.1  # of the weights 1 / ln(offset + share) (Paszke 2016, who take 1.02): the rarest weighs about seven times the most frequent
)
CALIBRATING_FRAMES, CALIBRATING_PIXELS = 64, 500  # and so many pixels of each


def segmentation_loss(settings: DrivingPerception, network: RoadNetwork, batch: dict[str, Tensor]) -> Tensor:
    """Weighted cross-entropy over the pixels of augmented cuts."""
    image, mask = cut(batch["image"].float() / 255, batch["mask"], settings.crop, settings.zoom, settings.mirror)
    return pixel_loss(network(recoloured(image, settings.colour)), mask, settings.balance == "log")


def pixel_loss(logits: Tensor, mask: Tensor, balanced: bool) -> Tensor:
    """logits [N, C, H, W], mask int64 [N, H, W] with 255 for what counts for nothing; 0 where nothing counts."""
    classes = logits.shape[1]
    counted = mask != IGNORED
    weight = None
    if balanced:
        share = torch.bincount(mask[counted], minlength=classes).float() / counted.sum().clamp(min=1)
        weight = 1 / torch.log(LOG_OFFSET + share)
    total = F.cross_entropy(logits, mask, weight, ignore_index=IGNORED, reduction="sum")
    weighed = counted.sum() if weight is None else weight[mask[counted]].sum()
    return total / weighed.clamp(min=1)


@torch.no_grad()
def fit_temperature(network: RoadNetwork, examples: Examples) -> None:
    """Temperature scaling on pixels of the validation split."""
    random = np.random.default_rng(0)
    logits, right = [], []
    for row in np.unique(np.linspace(0, len(examples) - 1, CALIBRATING_FRAMES).astype(np.int64)):
        batch = examples.batch(np.array([row]))
        found = network(torch.from_numpy(batch["image"]))[0].flatten(1).T.numpy()
        mask = batch["mask"].reshape(-1)
        known = np.flatnonzero(mask != IGNORED)
        chosen = random.choice(known, min(CALIBRATING_PIXELS, len(known)), replace=False)
        logits.append(found[chosen])
        right.append(mask[chosen, None] == np.arange(found.shape[1]))
    network.temperature.fill_(best_temperature(np.concatenate(logits), np.concatenate(right)))
