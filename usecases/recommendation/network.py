"""Networks that read a history: self-attentive or recurrent; and the graph that turns any of them into recommendations.

Items are numbered from 1; 0 is none. Histories are padded on the left, so that the last place is the latest event.
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

ANSWERS = 100  # items that the graph returns, best first; requests may ask for fewer


class SelfAttentive(nn.Module):
    """SASRec (Kang 2018), with the norm before each layer.

    history int64 [B, L], L at most the length, to a state per place, [B, L, width], or with `latest` to that of the last one, [B, 1, width].
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
        length = history.shape[1]  # places are counted from the end
        x = self.dropout(self.item(history) + self.place.weight[-length:])
        known = (history > 0)[:, None, None, :]
        visible = (
            self.causal[:length, :length] & known | self.itself[:length, :length]
        )  # padding sees itself: a row without any would be no number
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
    """A backbone whose last state is compared with every item's embedding."""

    def __init__(self, backbone: SelfAttentive | Recurrent, popularity: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("popularity", popularity)
        self.popularity: Tensor

    def states(self, history: Tensor) -> Tensor:
        """[B, L] to what is compared with the items, [B, L, D]; D is the width, or the items' rank where they are factored."""
        return self._beside_items(self.backbone(history))

    def latest(self, history: Tensor) -> Tensor:
        """[B, L] to the state of the last place, [B, D]"""
        return self._beside_items(self.backbone(history, latest=True)[:, 0])

    def items(self) -> Tensor:
        """[items, D]"""
        return self.backbone.item.weight[1:]

    def _beside_items(self, states: Tensor) -> Tensor:
        item = self.backbone.item
        return states @ item.widen.weight if isinstance(item, FactoredEmbedding) else states

    def forward(self, history: Tensor) -> Tensor:
        """history int64 [B, L] to a score per item, [B, items]; without a known event what is popular."""
        scores = self.latest(history) @ self.items().T
        return torch.where((history > 0).any(1, keepdim=True), scores.float(), self.popularity)

    def layers(self) -> list[nn.Module]:
        return self.backbone.layers()


class Recommender(nn.Module):
    """Scores to the best items that are allowed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, history: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """history int64 [B, L], allowed bool [B, items] to items int64 and scores float32, [B, K], best first."""
        scores = self.network(history).float().masked_fill(~allowed, float("-inf"))
        score, place = torch.topk(scores, min(ANSWERS, scores.shape[1]), dim=1)
        return place + 1, score


def popularity_prior(assets: Path) -> Tensor:
    """log of each item's share of the training events, float32 [items]; unseen ones count as half an event."""
    counts = np.load(assets / "popularity.npy")[1:].astype(np.float64)
    return torch.from_numpy(np.log((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))).float()


def build_network(usecase: Recommendation, assets: Path) -> NextItem:
    """Raises `SettingError` where the heads do not divide the width."""
    items = len(read_catalogue(assets)["items"])
    if usecase.model == "gru4rec":
        backbone = Recurrent(usecase, items)
    else:
        if usecase.width % usecase.heads:
            raise SettingError(
                f"--usecase.heads {usecase.heads} do not divide --usecase.width {usecase.width}. Try {usecase.width // 32 or 1}."
            )
        backbone = SelfAttentive(usecase, items)
    return NextItem(backbone, popularity_prior(assets))
