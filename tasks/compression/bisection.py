"""The search for the strongest compression within the budget, with few attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def strongest(levels: Sequence[float], is_fine: Callable[[float], bool]) -> float | None:
    """The strongest level that is good enough, by bisection: of seven levels, three are tried.

    Args:
        levels: strengths of compression, the weakest first.
        is_fine: whether a level is good enough; all weaker levels are assumed to be good enough then, too.

    Returns:
        The level; None if even the weakest is not good enough.
    """
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        if is_fine(levels[middle]):
            low = middle + 1
        else:
            high = middle
    return levels[low - 1] if low else None
