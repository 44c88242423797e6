"""Approximate search of large catalogues: an inverted file index (IVF, Jégou 2011) scores only the items near the state.

The index is part of the graph, so that filters work as in an exact search and a server needs only ONNX Runtime.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from usecases.recommendation.network import ANSWERS, NextItem

ROOM = 1.5  # size of every list relative to the mean; lists of one size can be gathered as a matrix
SAMPLED = 128  # items per centre on which k-means is fitted
CHUNK = 16_384
CHOICES = 8  # nearest centres to which an item can be assigned when the first are full


class NearestItems(nn.Module):
    """Scores the items of the lists with the best centres for the state, which are a share `scanned` of the catalogue."""

    def __init__(self, network: NextItem, scanned: float) -> None:
        super().__init__()
        self.network = network
        vectors = network.items().detach().float().numpy()
        members, centres, offset = inverted_lists(vectors)
        popularity = torch.cat([torch.full((1,), float("-inf")), network.popularity])
        self.lists = max(1, min(len(members), round(scanned * len(members))))
        self.register_buffer("members", torch.from_numpy(members))
        self.register_buffer("centres", torch.from_numpy(centres))
        self.register_buffer("offset", torch.from_numpy(offset))
        self.register_buffer("popularity", popularity)
        self.register_buffer("list_popularity", popularity[torch.from_numpy(members)].amax(1))
        self.members: Tensor
        self.centres: Tensor
        self.offset: Tensor
        self.popularity: Tensor
        self.list_popularity: Tensor

    def forward(self, history: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """history int64 [B, L], allowed bool [B, items] to items int64 and scores float32, [B, K], best first.

        If fewer than K allowed items are in these lists, the rest have a score of minus infinity. A cold-start user, whose history is
        empty, gets the most popular items.
        """
        has_history = (history > 0).any(1, keepdim=True)
        state = self.network.latest(history).float()
        fitting = torch.where(has_history, state @ self.centres.T - self.offset, self.list_popularity)
        item = self.members[torch.topk(fitting, self.lists, dim=1).indices].flatten(1)
        near = (self.network.backbone.item.weight[item] @ state.unsqueeze(2)).squeeze(2)
        scores = torch.where(has_history, near, self.popularity[item])
        padding = torch.zeros_like(has_history)  # lists are padded with item 0
        listed = torch.cat([padding, allowed], dim=1).gather(1, item)
        score, place = torch.topk(scores.masked_fill(~listed, float("-inf")), min(ANSWERS, item.shape[1]), dim=1)
        return item.gather(1, place), score


def inverted_lists(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cluster items into lists of neighbours, by their vectors float32 [N, D].

    One more coordinate turns maximum inner product search into nearest neighbour search (Bachrach 2014): the score of a query q for the
    list with centre c is q · c − |c|² / 2.

    Returns members int64 [lists, room], numbered from 1 and padded with 0; centres float32 [lists, D]; |c|² / 2, [lists].
    """
    from sklearn.cluster import MiniBatchKMeans

    squares = np.square(vectors).sum(1)
    points = np.concatenate([vectors, np.sqrt(squares.max() - squares)[:, None]], axis=1)
    count = max(1, 2 ** round(np.log2(len(points)) / 2))
    sample = np.random.default_rng(0).permutation(len(points))[: SAMPLED * count]
    settings: dict[str, Any] = {"batch_size": min(4096, 8 * count), "n_init": 1, "random_state": 0}
    centres = np.asarray(MiniBatchKMeans(count, **settings).fit(points[sample]).cluster_centers_, dtype=np.float32)
    offset = np.square(centres).sum(1) / 2
    members = _dealt(_nearest_centres(points, centres, offset), count)
    return members, np.ascontiguousarray(centres[:, :-1]), offset


def _nearest_centres(points: np.ndarray, centres: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The nearest centres of each item, int64 [N, choices], nearest first."""
    found = []
    for start in range(0, len(points), CHUNK):
        fit = points[start : start + CHUNK] @ centres.T - offset
        best = np.argpartition(-fit, min(CHOICES, fit.shape[1]) - 1, axis=1)[:, :CHOICES]
        found.append(np.take_along_axis(best, np.argsort(-np.take_along_axis(fit, best, 1), axis=1, kind="stable"), 1))
    return np.concatenate(found)


def _dealt(choices: np.ndarray, lists: int) -> np.ndarray:
    """Assign each item to the first of its choices that has room, else to any list with room: int64 [lists, room]."""
    room = int(np.ceil(ROOM * len(choices) / lists))
    members, filled = np.zeros((lists, room), dtype=np.int64), np.zeros(lists, dtype=np.int64)
    waiting = np.arange(len(choices))
    for choice in choices.T:
        waiting = _deal_out(waiting, choice[waiting], members, filled)
    anywhere = np.repeat(np.arange(lists), room - filled)[: len(waiting)]
    _deal_out(waiting, anywhere, members, filled)
    return members


def _deal_out(items: np.ndarray, wanted: np.ndarray, members: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Add items to the lists that they want while there is room, and return the remaining items."""
    order = np.argsort(wanted, kind="stable")
    items, wanted = items[order], wanted[order]
    place = filled[wanted] + np.arange(len(wanted)) - np.searchsorted(wanted, wanted)
    fits = place < members.shape[1]
    members[wanted[fits], place[fits]] = items[fits] + 1
    np.add.at(filled, wanted[fits], 1)
    return items[~fits]
