"""The table of heads. A new head is a module in this folder and a row here."""

from __future__ import annotations

from usecases.driving_perception.heads.boxes import BoxHead
from usecases.driving_perception.heads.head import Head
from usecases.driving_perception.heads.mask import MaskHead
from usecases.driving_perception.heads.signal import SignalHead
from usecases.driving_perception.heads.steering import SteeringHead

HEADS: dict[str, Head] = {
    head.name: head
    for head in (
        MaskHead(),
        BoxHead(),
        SteeringHead(),
        SignalHead(),
    )
}
"""Heads by name, in the order of their outputs in the exported graph."""


def known_head(name: str) -> str:
    """The name of a head itself. Raises `ValueError`: there is no such head."""
    if name not in HEADS:
        raise ValueError(f"there is no head {name!r}; the heads are {', '.join(HEADS)}")
    return name
