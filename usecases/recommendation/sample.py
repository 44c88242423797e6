"""Simulated shoppers, made here: nobody's data, with a structure that is known, so that a network can be seen to find it."""

from __future__ import annotations

import numpy as np
import polars as pl

from usecases.recommendation.logs import Catalogue, Log

PEOPLE, ITEMS, KINDS = 900, 300, 10
EVENTS = (12, 40)  # per person
FOLLOWS, STAYS = 0.5, 0.75  # that the companion of the last item comes next; else, that the next is of the same kind
BOUGHT = 0.3  # of what is viewed
DAY = 86_400


def simulated(seed: int = 0) -> Log:
    """Everybody has a taste for a few kinds; every item has one companion that half of all people look at next."""
    random = np.random.default_rng(seed)
    kind = np.arange(ITEMS) % KINDS
    companion = np.array([random.choice(np.flatnonzero(kind == k)) for k in kind])
    appeal = random.pareto(1.5, ITEMS) + 0.1
    rows: list[tuple[str, str, str, str]] = []
    for person in range(PEOPLE):
        taste = random.dirichlet(np.full(KINDS, 0.3))
        time, last = float(random.integers(0, 200 * DAY)), -1
        for _ in range(int(random.integers(*EVENTS))):
            last = _next(last, kind, companion, appeal, taste, random)
            time += float(random.exponential(2 * DAY))
            action = "buy" if random.random() < BOUGHT else "view"
            rows.append((f"shopper-{person:03d}", f"item-{last:03d}", f"{1.7e9 + time:.0f}", action))
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
