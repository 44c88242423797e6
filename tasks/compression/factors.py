"""Low-rank factorisation of weights, and layers that keep their factorised form while the network learns."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tasks.compression.masks import conv_and_linear_layers
from tasks.compression.parametrization import ComputedWeight


def factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The factors [M, R] and [R, N], of equal norm, of the best approximation of a weight [M, N] by rank R (Eckart and Young 1936)."""
    left, scales, right = torch.linalg.svd(weight.double(), full_matrices=False)
    root = scales[:rank].sqrt()
    return (left[:, :rank] * root).to(weight.dtype), (root[:, None] * right[:rank]).to(weight.dtype)


def rank_that_saves(share: float, outputs: int, inputs: int) -> int:
    """The largest rank at which factorisation saves a share of the parameters of a weight.

    Args:
        share: share of the parameters to save, in (0, 1).
        outputs: rows of the weight.
        inputs: columns of the weight.

    Returns:
        The rank; 0 if even rank 1 saves less.
    """
    return int((1 - share) * outputs * inputs / (outputs + inputs))


def factorise_layers(network: nn.Module, share: float) -> int:
    """Factorise the weights of the linear layers before the head, which is the last of `layers()`; the factors learn in their place.

    Weights that several modules share, and those so thin that rank 1 saves less than the share, stay as they are.

    Returns:
        The number of layers that were factorised.
    """
    head = set(list(network.layers())[-1].modules())  # pyright: ignore[reportCallIssue, reportArgumentType]
    inside = [layer for layer in conv_and_linear_layers(network) if isinstance(layer, nn.Linear) and layer not in head]
    ranks = {layer: rank for layer in inside if (rank := rank_that_saves(share, layer.out_features, layer.in_features))}
    for layer, rank in ranks.items():
        parametrize.register_parametrization(layer, "weight", ComputedWeight(torch.matmul, partial(factors, rank=rank)))
    return len(ranks)


def multiply_out(network: nn.Module) -> None:
    """Replace the factors by their product, a plain weight. It is computed in float64, so that its rank is exact to float32 precision."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer.double().requires_grad_(), "weight")
            layer.float()
