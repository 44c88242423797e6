"""What is learnt: at every place of a history, the item that came next."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.recommendation.network import NextItem
from usecases.recommendation.softmax import Teacher, softmax_loss

if TYPE_CHECKING:
    from usecases.recommendation import Recommendation

LARGE = 50_000  # items from which on a softmax over all of them is too dear


def next_item_loss(usecase: Recommendation, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The chosen objective over the places of `history` [B, L] that have a `target` [B, L]."""
    chosen = objective_of(usecase, network)
    if chosen == "softmax":
        states, items, right = compared_with_all(network, batch)
        return softmax_loss(states, items, right)
    scores, right = compared(usecase, network, batch)
    if chosen == "sampled":
        return F.cross_entropy(scores, right)
    power = positive_power(scores.shape[1] - 1, len(cast(NextItem, network).items()), usecase.calibration) if chosen == "gbce" else 1.0
    return calibrated_cross_entropy(scores[:, 0], scores[:, 1:], power)


def full_softmax_distillation_loss(student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float) -> Tensor:
    """The softmax objective, a part `weight` of it being the distance to the teacher's softmax."""
    with torch.no_grad():
        opinion = compared_with_all(teacher, batch)[:2]
    states, items, right = compared_with_all(student, batch)
    return softmax_loss(states, items, right, Teacher(*opinion, weight, temperature))


def compared_with_all(network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """States [N, D] of the places that have a target, all items [C, D], and which of them came, [N]."""
    known, wanted = cast(NextItem, network), batch["target"] > 0
    return known.states(batch["history"])[wanted], known.items(), batch["target"][wanted] - 1


def compared(usecase: Recommendation, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Scores of the items that a sampled objective sets against each other, [N, C], and which of them came, [N]; N places have a target.

    The right one, then others drawn at random: one for each place with BCE, some for all with the others.
    """
    known, wanted = cast(NextItem, network), batch["target"] > 0
    chosen, items, target = objective_of(usecase, network), known.items(), batch["target"][wanted] - 1
    count = len(target) if chosen == "bce" else min(usecase.negatives, len(items))
    drawn = torch.randint(len(items), (count,), device=target.device)  # before the network draws: a teacher sees the same
    states = known.states(batch["history"])[wanted]
    right = (states * items[target]).sum(-1, keepdim=True)
    if chosen == "bce":
        wrong = (states * items[drawn]).sum(-1, keepdim=True)
    else:
        wrong = (states @ items[drawn].T).masked_fill(drawn == target[:, None], float("-inf"))  # the right one, drawn by chance
    return torch.cat([right, wrong], 1), torch.zeros_like(target)


def objective_of(usecase: Recommendation, network: nn.Module) -> str:
    if usecase.objective == "auto":
        return "sampled" if len(cast(NextItem, network).items()) >= LARGE else "softmax"
    return usecase.objective


def positive_power(negatives: int, items: int, calibration: float) -> float:
    """gSASRec's beta (Petrov 2023): undoes the overconfidence that comes from seeing few of the wrong items."""
    share = negatives / max(items - 1, 1)
    return share * (calibration * (1 - 1 / share) + 1 / share)


def calibrated_cross_entropy(right: Tensor, wrong: Tensor, power: float) -> Tensor:
    """Binary cross-entropy of the right item's score [N] and the wrong ones' [N, K], the right probability to a power."""
    return (-power * F.logsigmoid(right.float()) - F.logsigmoid(-wrong.float()).sum(-1)).mean()
