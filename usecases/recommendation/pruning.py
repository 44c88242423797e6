"""Initialisation of a student from its teacher: item embeddings are factorised, and feed-forward layers pruned."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from usecases.pruning import factor, keep_strongest, take_over
from usecases.recommendation.network import NextItem
from usecases.transformer import Block, FactoredEmbedding


def inherit(student: NextItem, teacher: NextItem) -> None:
    """Initialise a student from a teacher of the same width; parts without a counterpart are unchanged.

    The factorisation weights the error of an item by the square root of its share of the events, so that rare items count too.
    """
    take_over(student, teacher)
    item = student.backbone.item
    if isinstance(item, FactoredEmbedding):
        padding = torch.zeros(1)
        factor(item, teacher.backbone.item, torch.cat([padding, teacher.popularity.float().mul(0.5).exp()]))
    for small, large in zip(_blocks(student), _blocks(teacher), strict=False):
        if small.up.in_features == large.up.in_features:
            keep_strongest(small, large)


def _blocks(network: NextItem) -> list[Block]:
    return [cast(Block, block) for block in cast(nn.ModuleList, getattr(network.backbone, "blocks", nn.ModuleList()))]
