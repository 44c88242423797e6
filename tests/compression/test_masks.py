"""Masks of unstructured pruning, compared with their definitions."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from tasks.compression.masks import (
    Mask,
    apply_mask,
    conv_and_linear_layers,
    make_permanent,
    mask_smallest,
    mask_smallest_of_all,
    mask_two_of_four,
    masked_layers,
    prune_smallest,
)
from tasks.compression.sparsity import RAMP, scheduled_sparsity


def smallest_one_by_one(weight: Tensor, share: float) -> Tensor:
    ranked = sorted(range(weight.numel()), key=lambda place: abs(float(weight.flatten()[place])))
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    for place in ranked[: round(share * weight.numel())]:
        mask[place] = False
    return mask.view(weight.shape)


def two_of_four_one_by_one(weight: Tensor) -> Tensor:
    mask = torch.zeros_like(weight, dtype=torch.bool)
    for output, start, *rest in [(o, i, y, x) for o in range(8) for i in range(0, 16, 4) for y in range(3) for x in range(3)]:
        four = [abs(float(weight[output, start + place, *rest])) for place in range(4)]
        for place in sorted(range(4), key=four.__getitem__)[2:]:
            mask[output, start + place, *rest] = True
    return mask


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(8, 16, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.8, 0.999])
def test_the_smallest_weights_are_masked(weight: Tensor, share: float) -> None:
    for layout in (weight, weight.to(memory_format=torch.channels_last)):
        assert torch.equal(mask_smallest(layout, share), smallest_one_by_one(weight, share))


def test_global_pruning_ranks_the_weights_of_all_layers_together(weight: Tensor) -> None:
    small = weight[:2, :2] / 100
    large, little = mask_smallest_of_all([weight, small], 0.5)
    together = smallest_one_by_one(torch.cat([weight.flatten(), small.flatten()]), 0.5)
    assert torch.equal(torch.cat([large.flatten(), little.flatten()]), together)
    assert not little.any(), "a layer with small weights loses a larger share"


def test_two_of_four_neighbours_along_the_inputs_are_kept(weight: Tensor) -> None:
    for layout in (weight, weight.to(memory_format=torch.channels_last)):
        assert torch.equal(mask_two_of_four(layout), two_of_four_one_by_one(weight))
    equals = mask_two_of_four(torch.zeros(2, 8))
    assert (equals.view(2, 2, 4).sum(-1) == 2).all(), "of equal weights two are kept as well"
    with pytest.raises(ValueError, match="has 6 inputs; a multiple of 4 was expected"):
        mask_two_of_four(weight[:, :6])


def test_sparsity_follows_the_cubic_schedule() -> None:
    assert scheduled_sparsity(0.8, 0.0) == 0
    assert scheduled_sparsity(0.8, RAMP / 2) == pytest.approx(0.8 * (1 - 0.5**3))
    assert scheduled_sparsity(0.8, RAMP) == scheduled_sparsity(0.8, 1.0) == 0.8


def test_masked_weights_stay_masked_and_do_not_learn() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4))
    for layer in conv_and_linear_layers(network):
        apply_mask(layer, torch.ones_like(layer.weight, dtype=torch.bool))
    hidden = []
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    for share in (0.2, 0.6, 0.6, 0.9):
        prune_smallest(network, share, globally=True)
        hidden.append(torch.cat([~mask.mask.flatten() for _, mask in masked_layers(network)]))
        assert int(hidden[-1].sum()) == round(share * hidden[-1].numel())
        network(torch.randn(8, 16)).square().sum().backward()
        optimizer.step()
    assert all((later | ~earlier).all() for earlier, later in pairwise(hidden))
    make_permanent(network)
    assert not [module for module in network.modules() if isinstance(module, Mask)]
    weights = torch.cat([layer.weight.flatten() for layer in conv_and_linear_layers(network)])
    assert torch.equal(weights == 0, hidden[-1])
    assert all(isinstance(parameter, nn.Parameter) and parameter.requires_grad for parameter in network.parameters())


def test_a_shared_weight_is_not_pruned() -> None:
    embedding, head, own = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False), nn.Linear(4, 4)
    head.weight = embedding.weight
    assert list(conv_and_linear_layers(nn.ModuleList([embedding, head, own]))) == [own]
