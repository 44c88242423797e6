"""Looking for the most that can be taken away, with few attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def largest(shares: Sequence[float], is_fine: Callable[[float], bool]) -> float | None:
    """The largest share that is fine, where what is fine at a share is fine at all smaller ones; None where none is.

    By bisection, the middle one first: of seven shares three are tried.
    """
    ordered = sorted(shares)
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if is_fine(ordered[middle]):
            low = middle + 1
        else:
            high = middle
    return ordered[low - 1] if low else None
