"""What is learnt: at every place of a history, the item that came next."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.recommendation.network import NextItem

if TYPE_CHECKING:
    from usecases.recommendation import Recommendation

LARGE = 50_000  # items from which on a softmax over all of them is too dear


def next_item_loss(usecase: Recommendation, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The chosen objective over the places of `history` [B, L] that have a `target` [B, L]."""
    known = cast(NextItem, network)
    wanted = batch["target"] > 0
    states, target, items = known.states(batch["history"])[wanted], batch["target"][wanted] - 1, known.items()
    chosen = usecase.objective
    if chosen == "auto":
        chosen = "sampled" if len(items) >= LARGE else "softmax"
    if chosen == "softmax":
        return F.cross_entropy(states @ items.T, target)
    drawn = torch.randint(len(items), (1 if chosen == "bce" else min(usecase.negatives, len(items)),), device=target.device)
    if chosen == "bce":
        drawn = torch.randint(len(items), (len(target),), device=target.device)
        return calibrated_cross_entropy((states * items[target]).sum(-1), (states * items[drawn]).sum(-1, keepdim=True), 1.0)
    right, wrong = (states * items[target]).sum(-1), states @ items[drawn].T
    wrong = wrong.masked_fill(drawn == target[:, None], float("-inf"))  # the right one, drawn by chance
    if chosen == "sampled":
        return F.cross_entropy(torch.cat([right[:, None], wrong], 1), torch.zeros_like(target))
    return calibrated_cross_entropy(right, wrong, positive_power(len(drawn), len(items), usecase.calibration))


def positive_power(negatives: int, items: int, calibration: float) -> float:
    """gSASRec's beta (Petrov 2023): undoes the overconfidence that comes from seeing few of the wrong items."""
    share = negatives / max(items - 1, 1)
    return share * (calibration * (1 - 1 / share) + 1 / share)


def calibrated_cross_entropy(right: Tensor, wrong: Tensor, power: float) -> Tensor:
    """Binary cross-entropy of the right item's score [N] and the wrong ones' [N, K], the right probability to a power."""
    return (-power * F.logsigmoid(right.float()) - F.logsigmoid(-wrong.float()).sum(-1)).mean()
