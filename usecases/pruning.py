"""Initialise a student from its teacher: matching weights are copied, the rest is reduced by structured pruning or factorisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from usecases.transformer import Block, FactoredEmbedding, every_vector


@torch.no_grad()
def take_over(student: nn.Module, teacher: nn.Module) -> None:
    """Copy the weights of the teacher that have the same name and shape in the student."""
    kept = student.state_dict()
    fitting = {name: value for name, value in teacher.state_dict().items() if name in kept and kept[name].shape == value.shape}
    student.load_state_dict(kept | fitting)


@torch.no_grad()
def factor(narrow: FactoredEmbedding, wide: nn.Module, weights: Tensor | None = None) -> None:
    """Set a factorised embedding to the best approximation of another embedding; nothing is done where their widths differ.

    Args:
        narrow: the factorised embedding.
        wide: the embedding that is approximated.
        weights: weight of the squared error of each vector, [count]; None: all count alike.
    """
    vectors = every_vector(wide, len(narrow.weight))
    if vectors.shape[1] == len(narrow.widen.weight):
        numbers, directions = low_rank(vectors, narrow.weight.shape[1], weights)
        narrow.narrow.weight.copy_(numbers)
        narrow.widen.weight.copy_(directions)


def low_rank(vectors: Tensor, rank: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The best low-rank factorisation of vectors, by weighted squared error.

    Args:
        vectors: [N, W].
        rank: of the factorisation.
        weights: weight of the error of each vector, [N]; None: all count alike.

    Returns:
        Coordinates [N, rank] and orthonormal directions [W, rank]; `vectors` is about their product.
    """
    weighted = vectors if weights is None else vectors * weights.sqrt()[:, None]
    directions = torch.linalg.eigh(weighted.T @ weighted).eigenvectors[:, -rank:]
    return vectors @ directions, directions


@torch.no_grad()
def keep_strongest(small: Block, large: Block) -> None:
    """Copy the inner neurons of the feed-forward network with the largest norms of their weights (magnitude pruning of whole neurons)."""
    strength = large.up.weight.norm(dim=1) * large.down.weight.norm(dim=0)
    kept = strength.topk(small.up.out_features).indices.sort().values
    small.up.weight.copy_(large.up.weight[kept])
    small.up.bias.copy_(large.up.bias[kept])
    small.down.weight.copy_(large.down.weight[:, kept])
    small.down.bias.copy_(large.down.bias)
