"""A student begins as its teacher, less the weights that matter least."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from usecases.transformer import Block, FactoredEmbedding, every_vector


@torch.no_grad()
def take_over(student: nn.Module, teacher: nn.Module) -> None:
    """Copy what has the same name and shape."""
    kept = student.state_dict()
    fitting = {name: value for name, value in teacher.state_dict().items() if name in kept and kept[name].shape == value.shape}
    student.load_state_dict(kept | fitting)


@torch.no_grad()
def factor(narrow: FactoredEmbedding, wide: nn.Module, weights: Tensor | None = None) -> None:
    """Fill a factored embedding with the best it can hold of another's vectors; an error counts by its `weights` [count]."""
    vectors = every_vector(wide, len(narrow.weight))
    if vectors.shape[1] == len(narrow.widen.weight):
        numbers, directions = low_rank(vectors, narrow.weight.shape[1], weights)
        narrow.narrow.weight.copy_(numbers)
        narrow.widen.weight.copy_(directions)


def low_rank(vectors: Tensor, rank: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The best vectors [N, W] of a rank, by weighted squared error: numbers [N, rank] and directions [W, rank]."""
    weighted = vectors if weights is None else vectors * weights.sqrt()[:, None]
    directions = torch.linalg.eigh(weighted.T @ weighted).eigenvectors[:, -rank:]
    return vectors @ directions, directions


@torch.no_grad()
def keep_strongest(small: Block, large: Block) -> None:
    """Of the inner neurons those with the largest weights in and out."""
    strength = large.up.weight.norm(dim=1) * large.down.weight.norm(dim=0)
    kept = strength.topk(small.up.out_features).indices.sort().values
    small.up.weight.copy_(large.up.weight[kept])
    small.up.bias.copy_(large.up.bias[kept])
    small.down.weight.copy_(large.down.weight[:, kept])
    small.down.bias.copy_(large.down.bias)
