"""Networks over histories, self-attentive or recurrent, and the graph that makes recommendations from them.

Items are numbered from 1; 0 is padding. Histories are padded on the left, so that the last position is the latest event.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from tasks.contract.errors import SettingError
from usecases.recommendation.sequences import read_catalogue
from usecases.transformer import Block, FactoredEmbedding, build_embedding

if TYPE_CHECKING:
    from usecases.recommendation import Recommendation

ANSWERS = 100  # number of items that the graph returns, best first; a request can set a smaller k


class SelfAttentive(nn.Module):
    """SASRec (Kang 2018) with pre-layer normalisation.

    history int64 [B, L], L at most the maximum sequence length, to states [B, L, width], or with `latest` to the last one, [B, 1, width].
    """

    def __init__(self, usecase: Recommendation, items: int) -> None:
        super().__init__()
        width, length = usecase.width, usecase.length
        self.item = build_embedding(items + 1, usecase.item_rank, usecase.width)
        self.place = nn.Embedding(length, width)
        self.dropout = nn.Dropout(usecase.dropout)
        self.blocks = nn.ModuleList(Block(width, usecase.heads, usecase.inner * width, usecase.dropout) for _ in range(usecase.blocks))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("causal", torch.ones(length, length, dtype=torch.bool).tril(), persistent=False)
        self.register_buffer("itself", torch.eye(length, dtype=torch.bool), persistent=False)
        self.causal: Tensor
        self.itself: Tensor
        nn.init.normal_(self.place.weight, std=width**-0.5)

    def forward(self, history: Tensor, latest: bool = False) -> Tensor:
        length = history.shape[1]  # positions are counted from the end
        x = self.dropout(self.item(history) + self.place.weight[-length:])
        padding_mask = (history > 0)[:, None, None, :]  # True at events, False at padding
        # padding attends to itself, since the softmax of a fully masked row is not a number
        visible = self.causal[:length, :length] & padding_mask | self.itself[:length, :length]
        for number, block in enumerate(self.blocks, 1):
            x = block(x, visible, latest and number == len(self.blocks))
        return self.norm(x)

    def layers(self) -> list[nn.Module]:
        return [self.item, *self.blocks, self.norm]


class Recurrent(nn.Module):
    """GRU4Rec (Hidasi 2016), with the inputs and outputs of `SelfAttentive`."""

    def __init__(self, usecase: Recommendation, items: int) -> None:
        super().__init__()
        width, layers = usecase.width, usecase.blocks
        self.item = build_embedding(items + 1, usecase.item_rank, usecase.width)
        self.dropout = nn.Dropout(usecase.dropout)
        self.gru = nn.GRU(width, width, layers, batch_first=True, dropout=usecase.dropout if layers > 1 else 0.0)
        self.norm = nn.LayerNorm(width)

    def forward(self, history: Tensor, latest: bool = False) -> Tensor:
        states = self.gru(self.dropout(self.item(history)))[0]
        return self.norm(self.dropout(states[:, -1:] if latest else states))

    def layers(self) -> list[nn.Module]:
        return [self.item, self.gru, self.norm]


class NextItem(nn.Module):
    """A backbone whose states are scored by their inner products with the item embeddings."""

    def __init__(self, backbone: SelfAttentive | Recurrent, popularity: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("popularity", popularity)
        self.popularity: Tensor

    def states(self, history: Tensor) -> Tensor:
        """history [B, L] to states in the space of the items, [B, L, D]; D is the width, or the rank of factorised item embeddings."""
        return self._in_item_space(self.backbone(history))

    def latest(self, history: Tensor) -> Tensor:
        """history [B, L] to the state of the last position, [B, D]."""
        return self._in_item_space(self.backbone(history, latest=True)[:, 0])

    def items(self) -> Tensor:
        """The item embeddings, [items, D]."""
        return self.backbone.item.weight[1:]

    def _in_item_space(self, states: Tensor) -> Tensor:
        item = self.backbone.item
        return states @ item.widen.weight if isinstance(item, FactoredEmbedding) else states

    def forward(self, history: Tensor) -> Tensor:
        """history int64 [B, L] to a score per item, [B, items]; for an empty history (a cold-start user) by popularity."""
        scores = self.latest(history) @ self.items().T
        return torch.where((history > 0).any(1, keepdim=True), scores.float(), self.popularity)

    def layers(self) -> list[nn.Module]:
        return self.backbone.layers()


class Recommender(nn.Module):
    """The exported graph: the best allowed items by the scores of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, history: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """history int64 [B, L], allowed bool [B, items] to items int64 and scores float32, [B, K], best first."""
        scores = self.network(history).float().masked_fill(~allowed, float("-inf"))
        score, place = torch.topk(scores, min(ANSWERS, scores.shape[1]), dim=1)
        return place + 1, score


def popularity_prior(assets: Path) -> Tensor:
    """The logarithm of each item's share of the training events, float32 [items]; items without events count as half an event."""
    counts = np.load(assets / "popularity.npy")[1:].astype(np.float64)
    return torch.from_numpy(np.log((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))).float()


def build_network(usecase: Recommendation, assets: Path) -> NextItem:
    """Build the network of the settings.

    Raises:
        SettingError: the width is not a multiple of the number of heads.
    """
    items = len(read_catalogue(assets)["items"])
    if usecase.model == "gru4rec":
        backbone = Recurrent(usecase, items)
    else:
        if usecase.width % usecase.heads:
            raise SettingError(
                f"--usecase.heads {usecase.heads} does not divide --usecase.width {usecase.width}. Set a number of heads that does."
            )
        backbone = SelfAttentive(usecase, items)
    return NextItem(backbone, popularity_prior(assets))
