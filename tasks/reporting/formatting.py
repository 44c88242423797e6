"""Formatting of numbers, durations and settings for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.contract.artifacts import Interval


def duration(seconds: float) -> str:
    """A duration such as 0.04 s, 12.3 s, 3 min 20 s or 1 h 05 min."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """A duration such as 0:07, 12:30 or 1:05:00, whose width hardly changes during a countdown."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def quantity(value: float) -> str:
    """A number with about three significant digits, without an exponent except for very small ones."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"


def score(value: float | None) -> str:
    """A score with four decimals; a dash for None."""
    return "–" if value is None else f"{value:.4f}"


def with_unit(value: float, unit: str) -> str:
    """A number with its unit; the unit "share" is written as a percentage."""
    return f"{100 * value:.1f} %" if unit == "share" else f"{plain(value)} {unit}".strip()


def gauge_value(gauge: Mapping[str, Any]) -> str:
    """The value of a gauge, rounded to a thousandth of its scale: `+0.120 ± 0.050` from −1 to 1, `312 ± 15 €` from 0 to 1000."""
    low, high = float(gauge["low"]), float(gauge["high"])
    decimals = min(max(3 - math.floor(math.log10((high - low) or 1.0)), 0), 6)
    number = f"{gauge['value']:{'+' if low < 0 else ''}.{decimals}f}"
    deviation = f" ± {gauge['deviation']:.{decimals}f}" if gauge.get("deviation") is not None else ""
    return f"{number}{deviation} {gauge.get('unit', '')}".strip()


def interval(gain: Interval | None) -> str:
    """The bounds of an interval, such as `−0.0071 to +0.0031`; empty for None."""
    return "" if gain is None else f"{gain.low:+.4f} to {gain.high:+.4f}".replace("-", "−")


def times(ratio: float, more: str, less: str) -> str:
    """A ratio as a comparison: `times(2.1, "faster", "slower")` is "2.1× faster".

    Args:
        ratio: above 0; close to 1 is written as no difference.
        more: word for ratios above 1.
        less: word for ratios below 1.

    Returns:
        The comparison.
    """
    if ratio >= 1.05:
        return f"{round(ratio, 1):g}× {more}"
    if 0 < ratio <= 1 / 1.05:
        return f"{round(1 / ratio, 1):g}× {less}"
    return f"no {more} or {less}"


def plain(value: object) -> str:
    """Any setting or cell of a table as text: short numbers, lists separated by commas, a dash for empty values."""
    if value is None or value == "" or value == () or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    return str(value)
