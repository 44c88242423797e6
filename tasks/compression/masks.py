"""Masks of unstructured pruning: which weights become zero, and layers that keep them at zero while the others learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

GROUP = 4  # neighbours along the input axis, of which two may be nonzero (2:4 sparsity)
ConvOrLinear = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def mask_smallest(weight: Tensor, share: float) -> Tensor:
    """The mask of magnitude pruning, bool of the weight's shape: False for the rounded share of weights of smallest magnitude."""
    mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[weight.abs().flatten().topk(round(share * weight.numel()), largest=False).indices] = False
    return mask.view(weight.shape)


def mask_smallest_of_all(weights: Sequence[Tensor], share: float) -> list[Tensor]:
    """The masks of global magnitude pruning: `mask_smallest` over all weights together, so that some lose a larger share than others."""
    together = mask_smallest(torch.cat([weight.flatten() for weight in weights]), share)
    parts = together.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


def mask_two_of_four(weight: Tensor) -> Tensor:
    """The mask of 2:4 sparsity for sparse tensor cores, bool of the weight's shape (Mishra 2021).

    It is True for the two weights of largest magnitude among each four neighbours along axis 1, the inputs.

    Raises:
        ValueError: the number of inputs is no multiple of four.
    """
    if weight.shape[1] % GROUP:
        raise ValueError(f"The weight of shape {tuple(weight.shape)} has {weight.shape[1]} inputs; a multiple of {GROUP} was expected.")
    groups = weight.abs().movedim(1, -1).unflatten(-1, (-1, GROUP))
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, groups.topk(GROUP // 2).indices, True)
    return mask.flatten(-2).movedim(-1, 1)


class Mask(nn.Module):
    """A parametrization (torch.nn.utils.parametrize) by which a weight is zero and has no gradient where the mask is False."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask: Tensor
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def conv_and_linear_layers(network: nn.Module) -> Iterator[ConvOrLinear]:
    """The convolutions and linear layers of a network, except those whose weight is shared with another module."""
    owners = Counter(id(parameter) for _, parameter in network.named_parameters(remove_duplicate=False))
    for module in network.modules():
        if isinstance(module, ConvOrLinear) and owners[id(module.weight)] == 1:
            yield module


def apply_mask(layer: ConvOrLinear, mask: Tensor) -> None:
    """Keep the weights of a layer at zero where the mask is False, until `make_permanent`."""
    parametrize.register_parametrization(layer, "weight", Mask(mask))


def masked_layers(network: nn.Module) -> list[tuple[ConvOrLinear, Mask]]:
    """The layers that have a mask, each with its mask."""
    layers = (module for module in network.modules() if isinstance(module, ConvOrLinear) and parametrize.is_parametrized(module, "weight"))
    held = ((layer, cast(nn.Sequential, layer.get_submodule("parametrizations.weight"))[0]) for layer in layers)
    return [(layer, mask) for layer, mask in held if isinstance(mask, Mask)]


@torch.no_grad()
def prune_smallest(network: nn.Module, share: float, globally: bool) -> None:
    """Extend the masks of a network to a share of its weights, those of smallest magnitude. Masked weights stay masked.

    Args:
        network: has layers with masks.
        share: share of the weights that are masked afterwards, in [0, 1].
        globally: whether to rank the weights of all layers together; otherwise each layer loses the same share.
    """
    masked = masked_layers(network)
    weights = [layer.weight for layer, _ in masked]
    masks = mask_smallest_of_all(weights, share) if globally else [mask_smallest(weight, share) for weight in weights]
    for (_, parametrization), mask in zip(masked, masks, strict=True):
        parametrization.mask &= mask


def make_permanent(network: nn.Module) -> None:
    """Replace masked weights by plain ones with zeros, and remove the masks.

    Raises:
        AssertionError: a masked weight is not zero.
    """
    for layer, parametrization in masked_layers(network):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        assert not layer.weight[~parametrization.mask].any(), "a masked weight is not zero"
