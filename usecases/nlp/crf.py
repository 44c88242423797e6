"""Loss and marginals of a linear-chain CRF over sequences of tags (Lafferty 2001)."""

from __future__ import annotations

import torch
from torch import Tensor


def crf_loss(scores: Tensor, tags: Tensor, transitions: Tensor) -> Tensor:
    """Negative log-likelihood of the tags, averaged over tokens.

    Args:
        scores: score of each tag at each token, [B, L, T].
        tags: true tags, int64 [B, L]; tokens with -1 are ignored, wherever they are.
        transitions: score of each step from tag to tag, [T + 1, T]; row 0 is the start.

    Returns:
        The loss, a scalar.
    """
    scores, tags = packed(scores, tags)
    mask = tags >= 0
    target = tags.clamp(min=0)
    before = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1] + 1], 1)  # row 0 of the transitions is the start
    path = scores.gather(2, target[..., None])[..., 0] + transitions[before, target]
    reached = scores[:, 0] + transitions[0]
    steps = transitions[1:]
    for place in range(1, scores.shape[1]):
        following = torch.logsumexp(reached[:, :, None] + steps, 1) + scores[:, place]
        reached = torch.where(mask[:, place, None], following, reached)
    partition = torch.logsumexp(reached, 1)
    tagged = mask.any(1)
    return ((partition * tagged).sum() - (path * mask).sum()) / mask.sum().clamp(min=1)


def tag_marginals(scores: Tensor, mask: Tensor, transitions: Tensor, temperature: float = 1.0) -> Tensor:
    """Marginal log-probabilities of the tags, by the forward-backward algorithm.

    Args:
        scores: score of each tag at each token, [B, L, T], packed.
        mask: True where there is a tagged token, bool [B, L]; these come first in each row.
        transitions: score of each step from tag to tag, [T + 1, T]; row 0 is the start.
        temperature: divides scores and transitions.

    Returns:
        The logarithm of the probability of each tag at each token over all sequences, [B, L, T].
    """
    scores, transitions = scores / temperature, transitions / temperature
    steps = transitions[1:]
    forward = [scores[:, 0] + transitions[0]]
    for place in range(1, scores.shape[1]):
        forward.append(torch.logsumexp(forward[-1][:, :, None] + steps, 1) + scores[:, place])
    backward = [torch.zeros_like(scores[:, 0])]
    for place in range(scores.shape[1] - 1, 0, -1):
        onward = torch.logsumexp(steps + (scores[:, place] + backward[-1])[:, None], 2)
        backward.append(torch.where(mask[:, place, None], onward, torch.zeros_like(onward)))
    return torch.log_softmax(torch.stack(forward, 1) + torch.stack(backward[::-1], 1), 2)


def packed(scores: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B, W, T] and tags int64 [B, W] of the tagged tokens only, moved to the front so that they are neighbours."""
    mask = tags >= 0
    longest = max(int(mask.sum(1).max()), 1)
    order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)[:, :longest]
    return scores.gather(1, order[..., None].expand(-1, -1, scores.shape[2])), tags.gather(1, order)
