"""Logs of events and catalogues of items, as the readers of layouts return them."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from usecases.reading.encodings import TextFile

NAMES = {
    "user": ("user", "user_id", "userid", "uid", "customer", "customer_id", "customerid", "visitor_id", "visitorid", "member_id", "reviewerid", "session_id", "sessionid", "session"),
    "item": ("item", "item_id", "itemid", "iid", "movie_id", "movieid", "product_id", "productid", "product", "asin", "parent_asin", "sku", "article_id", "track_id", "song_id", "book_id", "business_id"),
    "time": ("time", "timestamp", "ts", "date", "datetime", "event_time", "eventtime", "unixreviewtime", "created_at", "unix_timestamp", "t_dat"),
    "rating": ("rating", "ratings", "score", "stars", "overall", "review_rating"),
    "action": ("action", "event", "event_type", "behavior", "behaviour", "behavior_type", "type"),
}  # fmt: skip


@dataclass
class Catalogue:
    """Titles and categories of the items, by id."""

    titles: dict[str, str] = field(default_factory=dict)
    categories: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Log:
    """A log as it was read: `events` has columns of text; `text` is the text file behind it, if any; `catalogue` may be empty."""

    layout: str
    events: pl.LazyFrame
    catalogue: Catalogue = field(default_factory=Catalogue)
    text: TextFile | None = None
