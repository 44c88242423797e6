"""Scores of recommendations: over the whole catalogue, and with sampled items as in older papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.statistics import Statistics, mean_of
from tasks.contract.types import Arrays, Predict
from tasks.contract.usecase import Examples
from usecases.recommendation.explaining import drivers
from usecases.recommendation.sequences import EvaluationExamples, read_catalogue

BATCH = 256
MAX_SCORES = 60_000_000  # in a batch, which has one for each item of each example
CUTS = (5, 10, 20)
SAMPLED = 100  # number of sampled items that are ranked with the target
SHOWN = 6


def scores(predict: Predict, examples: Examples, folder: Path, with_sampled: bool) -> dict[str, float]:
    """Scores over all allowed items: hr, ndcg and mrr at 5, 10 and 20; coverage, novelty and diversity of the first ten.

    Args:
        predict: the model.
        examples: examples of a split.
        folder: the prepared data set.
        with_sampled: add `sampled100_*`, which rank the target among 100 sampled items that are not in the history, as in the paper of
            SASRec; for comparison with papers only.

    Returns:
        The scores by name.

    Raises:
        DataError: there is no example to score.
    """
    if not len(examples):
        raise DataError("There is no example in the split that is scored. Give more data, or a larger share for this split.")
    rank, first = ranked(predict, examples)
    found = at_cuts(rank)
    found |= beyond_accuracy(first, folder / "assets")
    if with_sampled:
        sampled, _ = ranked(predict, examples, among=SAMPLED)
        found |= {f"sampled{SAMPLED}_{name}": value for name, value in at_cuts(sampled).items() if name in ("hr@10", "ndcg@10")}
    return found


def statistics(predict: Predict, examples: Examples) -> Statistics:
    """Per-example statistics of ndcg@10."""
    rank, _ = ranked(predict, examples)
    return Statistics(gains(rank, 10)[:, None], mean_of)


def ranked(predict: Predict, examples: Examples, among: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rank the targets of examples.

    Args:
        predict: the model.
        examples: examples of a split.
        among: number of sampled items with which a target is ranked; 0: all allowed items.

    Returns:
        The rank of each target, from 0, infinite if it is not among the answers, [N]; and the first ten items, [N, 10].
    """
    random = np.random.default_rng(0)
    ranks, firsts = [], []
    size = max(1, min(BATCH, MAX_SCORES // examples.batch(np.arange(1))["allowed"].shape[1]))
    for start in range(0, len(examples), size):
        batch = examples.batch(np.arange(start, min(start + size, len(examples))))
        allowed = _sample(batch, among, random) if among else batch["allowed"]
        item = predict({"history": batch["history"], "allowed": allowed})["item"].astype(np.int64)
        hit = item == batch["target"][:, None]
        ranks.append(np.where(hit.any(1), hit.argmax(1), np.inf))
        firsts.append(item[:, :10])
    return np.concatenate(ranks), np.concatenate(firsts)


def recall_of_exact(found: Arrays, expected: Arrays) -> dict[str, float]:
    """Recall of an approximate search: the share of the first ten items of the exact search among its own, from `item` and `score` [B, K]."""
    wanted, given = (np.where(np.isfinite(a["score"][:, :10]), a["item"][:, :10], 0) for a in (expected, found))
    hit = (wanted[:, :, None] == given[:, None, :]).any(2) & (wanted > 0)
    return {"recall_of_exact@10": float(hit.sum() / max((wanted > 0).sum(), 1))}


def at_cuts(rank: np.ndarray) -> dict[str, float]:
    """hr, ndcg and mrr at each cut, from ranks that are counted from 0."""
    found = {}
    for cut in CUTS:
        hit = rank < cut
        place = np.where(hit, rank, 0)
        found[f"hr@{cut}"] = float(hit.mean())
        found[f"ndcg@{cut}"] = float(gains(rank, cut).mean())
        found[f"mrr@{cut}"] = float((hit / (place + 1)).mean())
    return found


def gains(rank: np.ndarray, cut: int) -> np.ndarray:
    """The discounted gain of a target at each rank, for ndcg at a cut."""
    hit = rank < cut
    return hit / np.log2(np.where(hit, rank, 0) + 2)


def beyond_accuracy(first: np.ndarray, assets: Path) -> dict[str, float]:
    """Coverage, novelty, popularity bias and diversity of the first ten items.

    Coverage is the share of the catalogue that is recommended, novelty the mean self-information of the items in bits, and diversity the
    share of pairs without a common category.
    """
    counts = np.load(assets / "popularity.npy")[1:].astype(np.float64)
    share = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    found = {
        "coverage@10": len(np.unique(first)) / len(counts),
        "novelty@10": float(-np.log2(share[first - 1]).mean()),
        "popularity_bias@10": float((share[first - 1].mean() / share.mean()) if len(first) else 0.0),
    }
    kinds = category_matrix(read_catalogue(assets)["categories"])
    if kinds is not None:
        shown = kinds[first - 1].astype(np.float32)
        common = np.einsum("nac,nbc->nab", shown, shown) > 0
        pairs = ~np.eye(first.shape[1], dtype=bool)
        found["diversity@10"] = float(1 - common[:, pairs].mean())
    return found


def category_matrix(categories: Sequence[Sequence[str]]) -> np.ndarray | None:
    """The hundred most common categories of each item, bool [items, categories]; None if there are no categories."""
    counts: dict[str, int] = {}
    for kinds in categories:
        for kind in kinds:
            counts[kind] = counts.get(kind, 0) + 1
    common = sorted(counts, key=lambda kind: -counts[kind])[:100]
    if not common:
        return None
    column = {kind: number for number, kind in enumerate(common)}
    found = np.zeros((len(categories), len(common)), dtype=bool)
    for item, kinds in enumerate(categories):
        found[item, [column[kind] for kind in kinds if kind in column]] = True
    return found


def _sample(batch: Arrays, among: int, random: np.random.Generator) -> np.ndarray:
    """Allow only the target and `among` others that were allowed, bool [B, items]."""
    order = random.random(batch["allowed"].shape)
    order[~batch["allowed"]] = 2
    order[np.arange(len(order)), batch["target"] - 1] = -1
    count = min(among + 1, order.shape[1])
    chosen = np.argpartition(order, count - 1, axis=1)[:, :count]
    allowed = np.zeros_like(batch["allowed"])
    np.put_along_axis(allowed, chosen, True, axis=1)
    return allowed & (batch["allowed"] | (order == -1))


# -- the report ---------------------------------------------------------------------------------------------------
def figures(predict: Predict, examples: Examples, folder: Path) -> dict[str, Any]:
    """Figures of the report: scores by length of the history and by popularity, and explained recommendations.

    Args:
        predict: the model.
        examples: examples of the test split.
        folder: the prepared data set.

    Returns:
        The title and the blocks of a section of the report.
    """
    rank, _ = ranked(predict, examples)
    everything = [examples.batch(np.arange(i, min(i + BATCH, len(examples)))) for i in range(0, len(examples), BATCH)]
    before = np.concatenate([batch["before"] for batch in everything])
    target = np.concatenate([batch["target"] for batch in everything])
    counts = np.load(folder / "assets" / "popularity.npy")[target]
    card = read_catalogue(folder / "assets")
    return {
        "title": "Scores by slice, and examples",
        "blocks": [
            _slices("By length of the history", before, [0, 1, 5, 10, 20, 50, 100], rank),
            _slices("By popularity of the target", counts, [0, 1, 5, 20, 50, 200, 1000], rank),
            *_explained(predict, examples, card),
        ],
    }


def _slices(title: str, value: np.ndarray, edges: Sequence[int], rank: np.ndarray) -> dict[str, Any]:
    rows = []
    for low, high in zip(edges, [*edges[1:], None], strict=True):
        inside = (value >= low) & (value < high if high is not None else True)
        if inside.any():
            label = f"{low:,} and more" if high is None else (f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}")
            found = at_cuts(rank[inside])
            rows.append([label, int(inside.sum()), f"{found['hr@10']:.4f}", f"{found['ndcg@10']:.4f}"])
    return {"kind": "table", "title": title, "columns": ["events", "examples", "hr@10", "ndcg@10"], "rows": rows}


def _explained(predict: Predict, examples: Examples, card: dict[str, Any]) -> list[dict[str, Any]]:
    """For a few examples: the recommendations, and the decrease of the first one's score without each event of the history."""
    assert isinstance(examples, EvaluationExamples)
    names = [title or item for title, item in zip(card["titles"], card["items"], strict=True)]
    blocks = []
    for row in np.linspace(0, len(examples) - 1, min(SHOWN, len(examples))).astype(np.int64):
        batch = examples.batch(np.array([row]))
        found = predict({"history": batch["history"], "allowed": batch["allowed"]})
        best = [names[i - 1] for i in found["item"][0, :5]]
        target = names[int(batch["target"][0]) - 1]
        items = [{"label": names[item - 1], "value": round(value, 3)} for item, value in drivers(predict, batch, int(found["item"][0, 0]))]
        caption = (
            f"Recommended: {', '.join(best)}. Actual next item: {target}. "
            "Decrease of the score of the first recommendation without each event of the history, the latest first:"
        )
        blocks.append({"kind": "bars", "title": f"Why {best[0]}", "caption": caption, "items": items})
    return blocks
