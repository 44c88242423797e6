"""A student begins as its teacher, less the weights that matter least."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from usecases.recommendation.network import Block, FactoredEmbedding, NextItem


@torch.no_grad()
def inherit(student: NextItem, teacher: NextItem) -> None:
    """Fill the student from a teacher of the same width and depth; parts that correspond in no way stay as they were."""
    kept = student.state_dict()
    fitting = {name: value for name, value in teacher.state_dict().items() if name in kept and kept[name].shape == value.shape}
    student.load_state_dict(kept | fitting)
    narrow, wide = student.backbone.item, teacher.backbone.item
    if isinstance(narrow, FactoredEmbedding):
        vectors = wide(torch.arange(len(wide.weight), device=wide.weight.device))
        if vectors.shape[1] == len(narrow.widen.weight):
            numbers, directions = low_rank(vectors, narrow.weight.shape[1], teacher.popularity)
            narrow.narrow.weight.copy_(numbers)
            narrow.widen.weight.copy_(directions)
    for small, large in zip(_blocks(student), _blocks(teacher), strict=False):
        if small.up.in_features == large.up.in_features:
            keep_strongest(small, large)


def low_rank(vectors: Tensor, rank: int, popularity: Tensor) -> tuple[Tensor, Tensor]:
    """The best vectors [N + 1, W] of a rank, row 0 none: numbers [N + 1, rank] and directions [W, rank].

    Errors count by an item's share of all events (`popularity`, its logarithm, [N]), softened by a root: seldom items matter too.
    """
    weighted = vectors[1:] * popularity.float().mul(0.25).exp()[:, None]
    directions = torch.linalg.eigh(weighted.T @ weighted).eigenvectors[:, -rank:]
    numbers = vectors @ directions
    numbers[0] = 0
    return numbers, directions


def keep_strongest(small: Block, large: Block) -> None:
    """Of the inner neurons those with the largest weights in and out."""
    strength = large.up.weight.norm(dim=1) * large.down.weight.norm(dim=0)
    kept = strength.topk(small.up.out_features).indices.sort().values
    small.up.weight.copy_(large.up.weight[kept])
    small.up.bias.copy_(large.up.bias[kept])
    small.down.weight.copy_(large.down.weight[:, kept])
    small.down.bias.copy_(large.down.bias)


def _blocks(network: NextItem) -> list[Block]:
    return [cast(Block, block) for block in cast(nn.ModuleList, getattr(network.backbone, "blocks", nn.ModuleList()))]
