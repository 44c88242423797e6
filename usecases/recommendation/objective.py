"""Loss functions: the next item at every position of a history."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usecases.recommendation.network import NextItem
from usecases.recommendation.softmax import Teacher, softmax_loss

if TYPE_CHECKING:
    from usecases.recommendation import Recommendation

LARGE = 50_000  # number of items from which a softmax over all of them is too slow


def next_item_loss(usecase: Recommendation, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Loss of the chosen objective on a batch.

    Args:
        usecase: settings of the objective.
        network: a `NextItem`.
        batch: `history` and `target`, int64 [B, L]; positions with a target of 0 are ignored.

    Returns:
        The loss, a scalar.
    """
    chosen = objective_of(usecase, network)
    if chosen == "softmax":
        states, items, target = states_and_items(network, batch)
        return softmax_loss(states, items, target)
    scores, target = sampled_logits(usecase, network, batch)
    if chosen == "sampled":
        return F.cross_entropy(scores, target)
    power = positive_power(scores.shape[1] - 1, len(cast(NextItem, network).items()), usecase.calibration) if chosen == "gbce" else 1.0
    return calibrated_cross_entropy(scores[:, 0], scores[:, 1:], power)


def full_softmax_distillation_loss(
    student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
) -> Tensor:
    """Distillation loss of the softmax over the whole catalogue (Hinton 2015).

    Args:
        student: a `NextItem`.
        teacher: a `NextItem` whose softened outputs are the targets.
        batch: `history` and `target`, int64 [B, L].
        weight: weight of the teacher's targets, in [0, 1]; the rest is the weight of the true items.
        temperature: divides the scores of both.

    Returns:
        The loss, a scalar.
    """
    with torch.no_grad():
        teacher_states, teacher_items, _ = states_and_items(teacher, batch)
    states, items, target = states_and_items(student, batch)
    return softmax_loss(states, items, target, Teacher(teacher_states, teacher_items, weight, temperature))


def states_and_items(network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """States [N, D] of the N positions that have a target, embeddings of all items [C, D], and the targets [N], counted from 0."""
    next_item, has_target = cast(NextItem, network), batch["target"] > 0
    return next_item.states(batch["history"])[has_target], next_item.items(), batch["target"][has_target] - 1


def sampled_logits(usecase: Recommendation, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Scores of the target and of sampled negative items, at the N positions that have a target.

    Args:
        usecase: settings of the objective: bce samples one negative item per position, the others share some among all positions.
        network: a `NextItem`.
        batch: `history` and `target`, int64 [B, L].

    Returns:
        Scores, [N, C], of the target in column 0 and the negative items in the others; and the column of the target, 0 [N].
    """
    next_item, has_target = cast(NextItem, network), batch["target"] > 0
    chosen, items, target = objective_of(usecase, network), next_item.items(), batch["target"][has_target] - 1
    count = len(target) if chosen == "bce" else min(usecase.negatives, len(items))
    drawn = torch.randint(len(items), (count,), device=target.device)  # before dropout draws, so that teacher and student share them
    states = next_item.states(batch["history"])[has_target]
    positive = (states * items[target]).sum(-1, keepdim=True)
    if chosen == "bce":
        negative = (states * items[drawn]).sum(-1, keepdim=True)
    else:
        negative = (states @ items[drawn].T).masked_fill(drawn == target[:, None], float("-inf"))  # without the target if it was drawn
    return torch.cat([positive, negative], 1), torch.zeros_like(target)


def objective_of(usecase: Recommendation, network: nn.Module) -> str:
    if usecase.objective == "auto":
        return "sampled" if len(cast(NextItem, network).items()) >= LARGE else "softmax"
    return usecase.objective


def positive_power(negatives: int, items: int, calibration: float) -> float:
    """gSASRec's beta (Petrov 2023), which corrects the overconfidence that sampling of negative items causes.

    Args:
        negatives: number of sampled negative items.
        items: number of all items.
        calibration: gSASRec's t: 0 is binary cross-entropy, 1 is fully calibrated.

    Returns:
        The power of the probability of the positive item.
    """
    share = negatives / max(items - 1, 1)
    return share * (calibration * (1 - 1 / share) + 1 / share)


def calibrated_cross_entropy(positive: Tensor, negative: Tensor, power: float) -> Tensor:
    """Binary cross-entropy with the probability of the positive item raised to a power (gBCE, Petrov 2023).

    Args:
        positive: scores of the positive items, [N].
        negative: scores of the negative items, [N, K].
        power: see `positive_power`; 1 is plain binary cross-entropy.

    Returns:
        The loss, a scalar.
    """
    return (-power * F.logsigmoid(positive.float()) - F.logsigmoid(-negative.float()).sum(-1)).mean()
