"""Which weights become zero, and how they are held there while the others learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

GROUP = 4  # neighbours along the input axis, of which two may be other than zero
Weighty = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def mask_smallest(weight: Tensor, share: float) -> Tensor:
    """False for the share of the weights, in whole numbers, whose magnitude is smallest; bool, of the same shape."""
    mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[weight.abs().flatten().topk(round(share * weight.numel()), largest=False).indices] = False
    return mask.view(weight.shape)


def mask_smallest_of_all(weights: Sequence[Tensor], share: float) -> list[Tensor]:
    """`mask_smallest` of several weights taken as one: some lose more, some less."""
    together = mask_smallest(torch.cat([weight.flatten() for weight in weights]), share)
    parts = together.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


def mask_two_of_four(weight: Tensor) -> Tensor:
    """True for the two of largest magnitude in each four neighbours along axis 1, that of the inputs; bool, of the same shape.

    That is what sparse tensor cores take (Mishra 2021).

    Raises:
        ValueError: the axis is no multiple of four.
    """
    if weight.shape[1] % GROUP:
        raise ValueError(f"The weight of shape {tuple(weight.shape)} has {weight.shape[1]} inputs, no multiple of {GROUP}.")
    groups = weight.abs().movedim(1, -1).unflatten(-1, (-1, GROUP))
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, groups.topk(GROUP // 2).indices, True)
    return mask.flatten(-2).movedim(-1, 1)


class Mask(nn.Module):
    """A parametrization: weights are seen as zero where the mask is False, and learn nothing there."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask: Tensor
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def weighty_layers(network: nn.Module) -> Iterator[Weighty]:
    """The convolutions and linear layers, those aside whose weight is another module's too."""
    owners = Counter(id(parameter) for _, parameter in network.named_parameters(remove_duplicate=False))
    for module in network.modules():
        if isinstance(module, Weighty) and owners[id(module.weight)] == 1:
            yield module


def hold(layer: Weighty, mask: Tensor) -> None:
    """Hold the weights of a layer at zero where the mask is False, from now on."""
    parametrize.register_parametrization(layer, "weight", Mask(mask))


def held_layers(network: nn.Module) -> list[tuple[Weighty, Mask]]:
    """The layers with a mask, and the mask."""
    layers = (module for module in network.modules() if isinstance(module, Weighty) and parametrize.is_parametrized(module, "weight"))
    held = ((layer, cast(nn.Sequential, layer.get_submodule("parametrizations.weight"))[0]) for layer in layers)
    return [(layer, mask) for layer, mask in held if isinstance(mask, Mask)]


@torch.no_grad()
def tighten(network: nn.Module, share: float, together: bool) -> None:
    """Let the masks hide a share of the weights: the smallest of the network `together`, or of each layer. What is hidden stays so."""
    held = held_layers(network)
    weights = [layer.weight for layer, _ in held]
    masks = mask_smallest_of_all(weights, share) if together else [mask_smallest(weight, share) for weight in weights]
    for (_, hidden), mask in zip(held, masks, strict=True):
        hidden.mask &= mask


def release(network: nn.Module) -> None:
    """Keep the weights as the masks show them, and take the masks away.

    Raises:
        AssertionError: a weight is not zero where it should be.
    """
    for layer, hidden in held_layers(network):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        assert not layer.weight[~hidden.mask].any(), "a masked weight is not zero"
