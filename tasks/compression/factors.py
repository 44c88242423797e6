"""A weight as the product of two thin matrices, and how it is held so while the network learns."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tasks.compression.masks import weighty_layers
from tasks.compression.parametrization import Computed


def factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Matrices [M, R] and [R, N] of equal norm whose product is the nearest to a weight [M, N] of all of that rank (Eckart and Young 1936)."""
    left, scales, right = torch.linalg.svd(weight.double(), full_matrices=False)
    root = scales[:rank].sqrt()
    return (left[:, :rank] * root).to(weight.dtype), (root[:, None] * right[:rank]).to(weight.dtype)


def rank_that_saves(share: float, outputs: int, inputs: int) -> int:
    """The largest rank whose two factors hold so much less than a weight [outputs, inputs], the `share` of it; 0 where none does."""
    return int((1 - share) * outputs * inputs / (outputs + inputs))


def factorise_layers(network: nn.Module, share: float) -> int:
    """Let the linear layers before the head, the last of `layers()`, learn as products from now on. Returns how many they are.

    Left alone are those whose weight is another module's too, and those so thin that rank 1 saves less than the share.
    """
    head = set(list(network.layers())[-1].modules())  # pyright: ignore[reportCallIssue, reportArgumentType]
    inside = [layer for layer in weighty_layers(network) if isinstance(layer, nn.Linear) and layer not in head]
    ranks = {layer: rank for layer in inside if (rank := rank_that_saves(share, layer.out_features, layer.in_features))}
    for layer, rank in ranks.items():
        parametrize.register_parametrization(layer, "weight", Computed(torch.matmul, partial(factors, rank=rank)))
    return len(ranks)


def multiply_out(network: nn.Module) -> None:
    """Put the products back as plain weights, in double precision first: so they are of their rank to the last digit that floats have."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer.double().requires_grad_(), "weight")
            layer.float()
