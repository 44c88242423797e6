"""The types that every part of the project speaks in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

Arrays = dict[str, np.ndarray]
"""Named arrays that share their first axis, the batch."""
Predict = Callable[[Arrays], Arrays]
"""A torch module, an ONNX graph or a live server, seen as a function from inputs to outputs, always with a batch axis."""
Say = Callable[[str], None]
"""Shows people what a long step is at; a newer message replaces the one before."""
Split = Literal["train", "validation", "test"]


def silently(message: str) -> None:
    """A `Say` that shows nothing."""
