"""The likelihood of a sequence of tags (Lafferty 2001)."""

from __future__ import annotations

import torch
from torch import Tensor


def crf_loss(scores: Tensor, tags: Tensor, transitions: Tensor) -> Tensor:
    """Minus the log-likelihood of the tags, summed over tokens and divided by their number.

    Args:
        scores: of each tag at each token, [B, L, T].
        tags: int64 [B, L]; tokens with -1 are passed over, whatever their place.
        transitions: from tag to tag, the first row from the start, [T + 1, T].
    """
    scores, tags = packed(scores, tags)
    known = tags >= 0
    right = tags.clamp(min=0)
    before = torch.cat([torch.zeros_like(right[:, :1]), right[:, :-1] + 1], 1)  # row 0 of the transitions is the start
    path = scores.gather(2, right[..., None])[..., 0] + transitions[before, right]
    reached = scores[:, 0] + transitions[0]
    steps = transitions[1:]
    for place in range(1, scores.shape[1]):
        following = torch.logsumexp(reached[:, :, None] + steps, 1) + scores[:, place]
        reached = torch.where(known[:, place, None], following, reached)
    every = torch.logsumexp(reached, 1)
    there = known.any(1)
    return ((every * there).sum() - (path * known).sum()) / known.sum().clamp(min=1)


def tag_marginals(scores: Tensor, known: Tensor, transitions: Tensor, temperature: float = 1.0) -> Tensor:
    """The logarithm of each tag's probability at each token over all sequences, [B, L, T] (forward-backward).

    Args:
        scores: of each tag at each token, [B, L, T]; packed.
        known: bool [B, L], a token is there; those come first.
        transitions: from tag to tag, the first row from the start, [T + 1, T].
        temperature: divides scores and transitions.
    """
    scores, transitions = scores / temperature, transitions / temperature
    steps = transitions[1:]
    forward = [scores[:, 0] + transitions[0]]
    for place in range(1, scores.shape[1]):
        forward.append(torch.logsumexp(forward[-1][:, :, None] + steps, 1) + scores[:, place])
    backward = [torch.zeros_like(scores[:, 0])]
    for place in range(scores.shape[1] - 1, 0, -1):
        onward = torch.logsumexp(steps + (scores[:, place] + backward[-1])[:, None], 2)
        backward.append(torch.where(known[:, place, None], onward, torch.zeros_like(onward)))
    return torch.log_softmax(torch.stack(forward, 1) + torch.stack(backward[::-1], 1), 2)


def packed(scores: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens that have a tag moved to the front, so that steps lead from one to the next: [B, W, T] and int64 [B, W]."""
    known = tags >= 0
    longest = max(int(known.sum(1).max()), 1)
    order = torch.argsort((~known).to(torch.int8), dim=1, stable=True)[:, :longest]
    return scores.gather(1, order[..., None].expand(-1, -1, scores.shape[2])), tags.gather(1, order)
