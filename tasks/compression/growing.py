"""Looking for the strongest compression that is good enough, with few attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def strongest(levels: Sequence[float], is_fine: Callable[[float], bool]) -> float | None:
    """The last of the levels, weakest first, that is fine, where all weaker ones are then fine, too; None where none is.

    By bisection, the middle one first: of seven levels three are tried.
    """
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        if is_fine(levels[middle]):
            low = middle + 1
        else:
            high = middle
    return levels[low - 1] if low else None
