"""What the readers of every layout find: a log of events, and what is known of its items."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl


@dataclass
class Catalogue:
    """What is known of the items, by id."""

    titles: dict[str, str] = field(default_factory=dict)
    categories: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Log:
    """A log as found: `events` holds text columns; `catalogue` may be empty."""

    layout: str
    events: pl.LazyFrame
    catalogue: Catalogue = field(default_factory=Catalogue)
