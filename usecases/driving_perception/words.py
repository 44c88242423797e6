"""Names of classes, as the many lists of them write them."""

from __future__ import annotations


def words_of(name: str) -> set[str]:
    """`Traffic_Light-Red` is traffic, light and red."""
    return set(name.lower().replace("_", " ").replace("-", " ").split())
