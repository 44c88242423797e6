"""Students of about half the size, initialised from their teacher: every other layer, and low-rank factorised token embeddings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from usecases.pruning import factor, take_over
from usecases.transformer import FactoredEmbedding

if TYPE_CHECKING:
    from usecases.nlp import TextSettings
    from usecases.nlp.network import TextNetwork

LAYER = re.compile(r"\.(\d+)\.")
PRETRAINED_RANK, SHARE = 128, 3  # rank of the token embeddings: of a pretrained encoder; else a third of the width


def smaller(settings: TextSettings) -> dict[str, Any]:
    """The settings of a student that differ from those of its teacher."""
    if settings.encoder:
        return {"kept_layers": settings.kept_layers / 2, "token_rank": PRETRAINED_RANK}
    rank = max(8, (settings.token_rank or settings.width) // SHARE)
    return {"depth": max(1, settings.depth // 2), "token_rank": rank}


@torch.no_grad()
def inherit(student: nn.Module, teacher: nn.Module) -> None:
    """Initialise a student from its teacher: its last layer is the teacher's last, and the others are evenly spaced."""
    small, large = _layers(student), _layers(teacher)
    if not small or len(small) == len(large):
        take_over(student, teacher)
    else:
        from_layer = {own: round((own + 1) * len(large) / len(small)) - 1 for own in range(len(small))}
        theirs, own = teacher.state_dict(), student.state_dict()
        for name, value in own.items():
            found = theirs.get(_renumbered(name, from_layer))
            if found is not None and found.shape == value.shape:
                value.copy_(found)
    token, wide = (cast("TextNetwork", network).backbone.token for network in (student, teacher))
    if isinstance(token, FactoredEmbedding):
        factor(token, wide)


def _renumbered(name: str, from_layer: dict[int, int]) -> str:
    return LAYER.sub(lambda found: f".{from_layer.get(int(found[1]), int(found[1]))}.", name, count=1)


def _layers(network: nn.Module) -> list[nn.Module]:
    """The layers of a network, which are its longest list of modules, here and in transformers."""
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len, default=[]))
