"""Baselines without training: popularity, Markov chains, item-based neighbours and EASE. They are stronger than most papers report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from usecases.recommendation.network import popularity_prior
from usecases.recommendation.sequences import Events, read_catalogue

if TYPE_CHECKING:
    from usecases.recommendation import Baseline

NEIGHBOURS, MAX_NEIGHBOURS = 500, 30_000_000  # kept per item, and of all items together
MARKOV_EVENTS, MARKOV_STEPS = 5, 10  # latest events of the history that vote; largest distance of counted pairs
DECAY = 0.7  # of the weight of an event relative to the next
SHRINK = 20.0  # shrinkage of rare items, in events
RIDGE = 300.0  # regularisation of EASE
MAX_EASE_ITEMS = 6_000  # the most popular ones, since its matrix is dense


class Popular(nn.Module):
    """The same scores for all users: history [B, L] to [B, items]."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(items))
        self.weight: Tensor

    def forward(self, history: Tensor) -> Tensor:
        return self.weight.expand(history.shape[0], -1)


class Neighbours(nn.Module):
    """Each of the latest `events` of the history votes for the items nearest to it: history [B, L] to [B, items]."""

    def __init__(self, items: int, events: int) -> None:
        super().__init__()
        kept = neighbours_kept(items)
        self.register_buffer("near", torch.zeros(items + 1, kept, dtype=torch.int64))
        self.register_buffer("vote", torch.zeros(items + 1, kept))
        self.register_buffer("say", torch.zeros(events))
        self.register_buffer("popularity", torch.zeros(items))
        self.near: Tensor
        self.vote: Tensor
        self.say: Tensor
        self.popularity: Tensor

    def forward(self, history: Tensor) -> Tensor:
        history = history[:, -len(self.say) :]
        votes = self.vote[history] * self.say[None, :, None]
        scores = self.popularity.expand(history.shape[0], -1)
        return scores.scatter_add(1, self.near[history].flatten(1), votes.flatten(1))


def empty(usecase: Baseline, assets: Path) -> nn.Module:
    """The module of a method, before fitting."""
    items = len(read_catalogue(assets)["items"])
    if usecase.method in ("popular", "recent"):
        return Popular(items)
    return Neighbours(items, min(MARKOV_EVENTS, usecase.length) if usecase.method == "markov" else usecase.length)


def fit(usecase: Baseline, network: nn.Module, folder: Path) -> None:
    """Fit the module of `empty` on the training events.

    Args:
        usecase: settings with the method.
        network: the module.
        folder: the prepared data set.
    """
    assets = folder / "assets"
    if isinstance(network, Popular):
        recent = torch.from_numpy(np.load(assets / "recent.npy")[1:])
        network.weight.copy_(popularity_prior(assets) if usecase.method == "popular" else torch.log(recent + 1e-6))
        return
    table = cast(Neighbours, network)
    events = Events(folder)
    near, vote = {"markov": markov, "itemknn": item_cosine, "ease": ease}[usecase.method](events)
    kept = min(near.shape[1], table.near.shape[1])
    table.near[:, :kept], table.vote[:, :kept] = torch.from_numpy(near[:, :kept]), torch.from_numpy(vote[:, :kept])
    age = torch.arange(len(table.say) - 1, -1, -1)
    table.say.copy_((DECAY if usecase.method == "markov" else 1.0) ** age)
    table.popularity.copy_(1e-6 * torch.exp(popularity_prior(assets)))  # decides only among items without votes


def markov(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """Transition probabilities from each item to those within a few steps after it; nearer ones count more.

    They are shrunk for rare items, whose followers are mostly chance. Returns neighbours and their weights.
    """
    size = events.size + 1
    counts = sp.csr_matrix((size, size), dtype=np.float64)
    owner, items = _training(events)
    for step in range(1, MARKOV_STEPS + 1):
        same = owner[step:] == owner[:-step]
        pairs = items[:-step][same], items[step:][same]
        counts = counts + sp.csr_matrix((np.full(same.sum(), 1.0 / step), pairs), shape=(size, size))
    total = np.asarray(counts.sum(axis=1)).ravel()
    return _nearest(sp.diags(1 / (total + SHRINK)) @ counts)


def item_cosine(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarity of items by the sets of their users (Sarwar 2001), shrunk for rare items. Returns neighbours and their weights."""
    had = _had(events)
    both = (had.T @ had).tocsr()
    both.setdiag(0)
    count = np.asarray(had.sum(axis=0)).ravel()
    rows, columns = both.nonzero()
    cosine = np.asarray(both[rows, columns]).ravel() / (np.sqrt(count[rows] * count[columns]) + SHRINK)
    return _nearest(sp.csr_matrix((cosine, (rows, columns)), shape=both.shape))


def ease(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """EASE, the linear model that predicts each item from the others (Steck 2019), over the most popular items.

    Returns neighbours and their weights.
    """
    had = _had(events)
    count = np.asarray(had.sum(axis=0)).ravel()
    chosen = np.sort(np.argsort(-count[1:], kind="stable")[:MAX_EASE_ITEMS] + 1)
    popular = had[:, chosen]
    gram = (popular.T @ popular).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += RIDGE
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    weights[np.diag_indices_from(weights)] = 0
    near, vote = _nearest(sp.csr_matrix(weights), first=0)
    wide = np.zeros((events.size + 1, near.shape[1]), dtype=np.int64), np.zeros((events.size + 1, near.shape[1]), dtype=np.float32)
    wide[0][chosen], wide[1][chosen] = chosen[near] - 1, vote
    return wide


def neighbours_kept(items: int) -> int:
    """The number of neighbours per item, which is limited by the size of the whole table."""
    return max(1, min(NEIGHBOURS, items, MAX_NEIGHBOURS // items))


def _training(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """The sequence and the item of every training event."""
    spans = events.splits["train"]
    owner = np.repeat(np.arange(len(spans)), spans[:, 1] - spans[:, 0])
    places = np.concatenate([np.arange(start, stop) for start, stop in spans])
    return owner, np.asarray(events.items)[places]


def _had(events: Events) -> sp.csr_matrix:
    """The interaction matrix of sequences and items, 0 or 1, [sequences, items + 1]."""
    owner, items = _training(events)
    had = sp.csr_matrix((np.ones(len(items)), (owner, items)), shape=(int(owner.max()) + 1, events.size + 1))
    had.data[:] = 1
    return had


def _nearest(weights: sp.csr_matrix, first: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The strongest entries of each row, as columns minus `first` and weights, [rows, neighbours]."""
    table: Any = sp.csr_matrix(weights)  # Any, since its type hints allow None
    items = table.shape[0]
    kept = neighbours_kept(items - first)
    near, vote = np.zeros((items, kept), dtype=np.int64), np.zeros((items, kept), dtype=np.float32)
    for row in range(first, items):
        span = slice(table.indptr[row], table.indptr[row + 1])
        columns, values = table.indices[span], table.data[span]
        best = np.argsort(-np.abs(values), kind="stable")[:kept]
        near[row, : len(best)], vote[row, : len(best)] = columns[best] - first, values[best]
    return near, vote
