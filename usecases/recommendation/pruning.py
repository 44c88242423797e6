"""How a student of recommendation begins: with its teacher's weights, the items' vectors and the inner networks cut down."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from usecases.pruning import factor, keep_strongest, take_over
from usecases.recommendation.network import NextItem
from usecases.transformer import Block, FactoredEmbedding


def inherit(student: NextItem, teacher: NextItem) -> None:
    """Fill the student from a teacher of the same width; parts that correspond in no way stay as they were.

    Errors of an item's vector count by the root of its share of all events: seldom items matter too.
    """
    take_over(student, teacher)
    item = student.backbone.item
    if isinstance(item, FactoredEmbedding):
        nobody = torch.zeros(1)
        factor(item, teacher.backbone.item, torch.cat([nobody, teacher.popularity.float().mul(0.5).exp()]))
    for small, large in zip(_blocks(student), _blocks(teacher), strict=False):
        if small.up.in_features == large.up.in_features:
            keep_strongest(small, large)


def _blocks(network: NextItem) -> list[Block]:
    return [cast(Block, block) for block in cast(nn.ModuleList, getattr(network.backbone, "blocks", nn.ModuleList()))]
