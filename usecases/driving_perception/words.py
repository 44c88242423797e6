"""Words in names of classes."""

from __future__ import annotations


def words_of(name: str) -> set[str]:
    """The words of a name: those of `Traffic_Light-Red` are traffic, light and red."""
    return set(name.lower().replace("_", " ").replace("-", " ").split())
