"""Transformer layers that several verticals build their networks from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani 2017), without dropout of the attention weights: that would take half of the training time on a CPU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head = width // heads  # width of a head; pruning may remove whole heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.outward = nn.Linear(width, width)

    def forward(self, asking: Tensor, x: Tensor, visible: Tensor) -> Tensor:
        """Attend from some positions to all.

        Args:
            asking: vectors of the queries, [B, Q, width].
            x: vectors of the keys and values, [B, L, width].
            visible: attention mask, True where a query may attend to a key, bool [B, 1, Q or 1, L].

        Returns:
            [B, Q, width].
        """
        query, (key, value) = self._by_head(self.query(asking), 1)[0], self._by_head(self.key_value(x), 2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return self.outward(mixed.transpose(1, 2).flatten(2))

    def weights(self, asking: Tensor, x: Tensor, visible: Tensor) -> Tensor:
        """The attention weights, for explanations.

        Args:
            asking: vectors of the queries, [B, Q, width].
            x: vectors of the keys, [B, L, width].
            visible: attention mask, True where a query may attend to a key, bool [B, 1, Q or 1, L].

        Returns:
            [B, heads, Q, L].
        """
        query, key = self._by_head(self.query(asking), 1)[0], self._by_head(self.key_value(x), 2)[0]
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        return scores.masked_fill(~visible, float("-inf")).softmax(3)

    def _by_head(self, x: Tensor, parts: int) -> Tensor:
        """[B, L, parts * heads * head] to [parts, B, heads, L, head]"""
        batch, length, width = x.shape
        return x.view(batch, length, parts, width // parts // self.head, self.head).permute(2, 0, 3, 1, 4)


def attention_layers(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, Attention)]


class Block(nn.Module):
    """A Transformer block with pre-layer normalisation: self-attention, then a feed-forward network, each with a residual connection."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.before, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.between, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, inner), nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visible: Tensor, latest: bool = False) -> Tensor:
        """Compute the block.

        Args:
            x: [B, L, width].
            visible: attention mask, True where a position may attend to another, bool [B, 1, L or 1, L].
            latest: compute the output of the last position only.

        Returns:
            [B, L, width], or with `latest` [B, 1, width].
        """
        asking = slice(-1, None) if latest else slice(None)
        normed = self.before(x)
        x = x[:, asking] + self.dropout(self.attention(normed[:, asking], normed, visible[:, :, asking]))
        return x + self.dropout(self.down(F.gelu(self.up(self.between(x)))))


class FactoredEmbedding(nn.Module):
    """A factorised embedding (ALBERT, Lan 2020): narrow vectors, and one linear layer that widens them."""

    def __init__(self, count: int, rank: int, width: int) -> None:
        super().__init__()
        self.narrow = plain_embedding(count, rank)
        self.widen = nn.Linear(rank, width, bias=False)
        nn.init.orthogonal_(self.widen.weight)

    def forward(self, numbers: Tensor) -> Tensor:
        """[B, L] to [B, L, width]"""
        return self.widen(self.narrow(numbers))

    @property
    def weight(self) -> Tensor:
        """[count, rank]"""
        return self.narrow.weight


def plain_embedding(count: int, width: int) -> nn.Embedding:
    """An embedding whose index 0 is the padding."""
    embedding = nn.Embedding(count, width, padding_idx=0)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    nn.init.zeros_(embedding.weight[0])
    return embedding


def build_embedding(count: int, rank: int, width: int) -> nn.Embedding | FactoredEmbedding:
    """An embedding, factorised if a rank is given.

    Args:
        count: number of vectors.
        rank: of the factorisation; 0: not factorised.
        width: of the vectors.

    Returns:
        The embedding, whose index 0 is the padding.
    """
    return FactoredEmbedding(count, rank, width) if rank else plain_embedding(count, width)


def every_vector(embedding: nn.Module, count: int) -> Tensor:
    """All vectors of an embedding, [count, width]."""
    return embedding(torch.arange(count, device=next(embedding.parameters()).device))
