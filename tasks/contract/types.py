"""Types that all parts of the project share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

Arrays = dict[str, np.ndarray]
"""Arrays by name; the first axis of all is the batch."""
Predict = Callable[[Arrays], Arrays]
"""A torch module, an ONNX graph or a live server as a function from inputs to outputs, by name and with a batch axis."""
Say = Callable[[str], None]
"""Shows a progress message of a long step; each message replaces the one before."""
Split = Literal["train", "validation", "test"]


def silently(message: str) -> None:
    """A `Say` that shows nothing."""
