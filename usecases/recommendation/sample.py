"""The sample data: simulated shoppers with a known structure, so that it is visible whether a model finds it."""

from __future__ import annotations

import numpy as np
import polars as pl

from usecases.recommendation.logs import Catalogue, Log

USERS, ITEMS, KINDS = 900, 300, 10
EVENTS = (12, 40)  # per user
FOLLOWS, STAYS = 0.5, 0.75  # probability of the companion of the last item; else of an item of the same kind
BOUGHT = 0.3  # share of the events that are purchases
DAY = 86_400


def simulated(seed: int = 0) -> Log:
    """A log of users who prefer a few kinds of items. Every item has a companion, which is the next item in half of all cases."""
    random = np.random.default_rng(seed)
    kind = np.arange(ITEMS) % KINDS
    companion = np.array([random.choice(np.flatnonzero(kind == k)) for k in kind])
    appeal = random.pareto(1.5, ITEMS) + 0.1
    rows: list[tuple[str, str, str, str]] = []
    for user in range(USERS):
        taste = random.dirichlet(np.full(KINDS, 0.3))
        time, last = float(random.integers(0, 200 * DAY)), -1
        for _ in range(int(random.integers(*EVENTS))):
            last = _next(last, kind, companion, appeal, taste, random)
            time += float(random.exponential(2 * DAY))
            action = "buy" if random.random() < BOUGHT else "view"
            rows.append((f"shopper-{user:03d}", f"item-{last:03d}", f"{1.7e9 + time:.0f}", action))
    table = pl.DataFrame(rows, schema=["user", "item", "time", "action"], orient="row")
    names = {f"item-{i:03d}": f"{NOUNS[int(kind[i])]} no. {i}" for i in range(ITEMS)}
    kinds = {f"item-{i:03d}": [NOUNS[int(kind[i])]] for i in range(ITEMS)}
    return Log("simulated shoppers (made up, with a known structure)", table.lazy().with_row_index("line", 1), Catalogue(names, kinds))


NOUNS = ("Boot", "Coat", "Hat", "Lamp", "Rug", "Vase", "Knife", "Pan", "Tent", "Rope")


def _next(last: int, kind: np.ndarray, companion: np.ndarray, appeal: np.ndarray, taste: np.ndarray, random: np.random.Generator) -> int:
    if last >= 0 and random.random() < FOLLOWS:
        return int(companion[last])
    wanted = int(kind[last]) if last >= 0 and random.random() < STAYS else int(random.choice(KINDS, p=taste))
    among = np.flatnonzero(kind == wanted)
    return int(random.choice(among, p=appeal[among] / appeal[among].sum()))
