"""Line charts and scatter plots as inline SVG. Colours are CSS variables of the page, so that charts follow its light or dark theme."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.reporting.formatting import quantity
from tasks.reporting.html import Markup, tag

STYLE = Path(__file__).with_name("style.css")
WIDTH, HEIGHT = 340, 220
RIGHT, TOP, BOTTOM = 14, 26, 38
COLOURS = 6  # number of variables --c0, --c1, ... in the style sheet
Range = tuple[float, float]


def lines(series: Sequence[Mapping[str, Any]], x_label: str, y_label: str, name: str) -> Markup:
    """A line chart. Points that are not finite are left out.

    Args:
        series: each with `name`, `x`, `y`, and optionally `dashed`.
        x_label: title of the x axis.
        y_label: title of the y axis.
        name: of the chart, for screen readers.

    Returns:
        The chart, with a legend if there are several series.
    """
    kept = [(index, one, _finite(one["x"], one["y"])) for index, one in enumerate(series)]
    points = [point for _, _, some in kept for point in some]
    if not points:
        return tag("p", "There are no finite values to draw.", class_="muted")
    frame = Frame(points)
    drawn = [_curve(frame, some, index, bool(one.get("dashed"))) for index, one, some in kept]
    return tag("div", figure(frame, drawn, x_label, y_label, name), _legend(series) if len(series) > 1 else None)


def scatter(points: Sequence[Mapping[str, Any]], x_label: str, y_label: str, name: str) -> Markup:
    """A scatter plot of numbered discs.

    Args:
        points: each with `label`, `x`, `y`, and optionally `size`, to which the area of its disc is proportional, and `strong`, which fills it.
        x_label: title of the x axis.
        y_label: title of the y axis.
        name: of the chart, for screen readers.

    Returns:
        The chart.
    """
    frame = Frame([(float(p["x"]), float(p["y"])) for p in points], margin=0.16)
    largest = max(float(p.get("size", 1)) for p in points) or 1.0
    order = sorted(range(len(points)), key=lambda i: (bool(points[i].get("strong")), -float(points[i].get("size", 1))))
    discs = [_disc(frame, points[i], i + 1, math.sqrt(float(points[i].get("size", 1)) / largest)) for i in order]
    return figure(frame, discs, x_label, y_label, name)


def data_uri(drawn: Markup) -> str:
    """The chart in `drawn` as a standalone image, as a data URI."""
    svg = drawn[drawn.index("<svg") : drawn.index("</svg>")]
    style = tag("style", Markup(STYLE.read_text(encoding="utf-8")))
    size = f'xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
    standalone = svg.replace("<svg", f"<svg {size}", 1).replace(">", f">{style}", 1) + "</svg>"
    return f"data:image/svg+xml;base64,{b64encode(standalone.encode()).decode()}"


def ticks(low: float, high: float, min_step: float = 0) -> list[float]:
    """Ticks of a linear axis, in steps of 1, 2, 2.5 or 5 times a power of ten.

    Args:
        low: lower end of the axis.
        high: upper end of the axis.
        min_step: smallest distance of two ticks.

    Returns:
        Three to six values within [low, high]; fewer if `min_step` is large.
    """
    raw = max((high - low) / 6, min_step)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def powers(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis from 10^low to 10^high: powers of ten, and also 2 and 5 times these if they are few."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    wanted = (1, 2, 5) if high - low < 2 else (1,)
    return [factor * 10.0**decade for decade in decades for factor in wanted if low <= math.log10(factor) + decade <= high]


class Frame:
    """Maps values to coordinates of the chart; with `logarithmic`, the x axis is logarithmic."""

    def __init__(self, points: Sequence[tuple[float, float]], margin: float = 0.05, logarithmic: bool = False) -> None:
        self.across = math.log10 if logarithmic else float
        self.x = _widened([self.across(x) for x, _ in points], margin)
        self.y = _widened([y for _, y in points], margin)
        whole = all(x == int(x) for x, _ in points) and self.x[1] - self.x[0] > 1
        self.columns = powers(*self.x) if logarithmic else ticks(*self.x, min_step=1 if whole else 0)
        self.rows = ticks(*self.y)
        self.left = 8 + 7 * max(len(_short(value)) for value in self.rows)

    def height(self, y: float) -> float:
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1)

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (self.across(x) - self.x[0]) / (self.x[1] - self.x[0])
        return round(self.left + across * (WIDTH - self.left - RIGHT), 1), self.height(y)


def _widened(values: Sequence[float], margin: float) -> Range:
    low, high = min(values), max(values)
    room = margin * (high - low) or abs(high) / 2 or 1.0
    return low - room, high + room


def _finite(xs: Sequence[Any], ys: Sequence[Any]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None and math.isfinite(y)]


def _curve(frame: Frame, points: list[tuple[float, float]], index: int, dashed: bool) -> Markup:
    colour = f"stroke:var(--c{index % COLOURS});fill:none"
    places = [frame.at(*point) for point in points]
    path = " ".join(f"{x},{y}" for x, y in places)
    curve = tag("polyline", points=path, style=colour, class_="curve", stroke_dasharray="5 5" if dashed else None)
    if dashed or len(places) > 40:
        return curve
    dot = f"fill:var(--c{index % COLOURS})"
    dots = [
        tag("circle", tag("title", f"{quantity(x)}: {quantity(y)}"), cx=cx, cy=cy, r=2.6, style=dot)
        for (x, y), (cx, cy) in zip(points, places, strict=True)
    ]
    return tag("g", curve, dots)


def _disc(frame: Frame, point: Mapping[str, Any], number: int, share: float) -> Markup:
    x, y = frame.at(point["x"], point["y"])
    title = tag("title", f"{point['label']}: {quantity(point['x'])}, {point['y']:.4f}")
    disc = tag("circle", cx=x, cy=y, r=round(8 + 9 * share, 1))
    text = tag("text", number, x=x, y=y, dy="0.36em", text_anchor="middle")
    return tag("g", title, disc, text, class_="disc strong" if point.get("strong") else "disc")


def figure(frame: Frame, drawn: object, x_label: str, y_label: str, name: str, description: str | None = None) -> Markup:
    """A chart with axes.

    Args:
        frame: maps values to coordinates.
        drawn: markup of what is plotted.
        x_label: title of the x axis.
        y_label: title of the y axis.
        name: of the chart, for screen readers.
        description: longer text for screen readers; None: none.

    Returns:
        The chart as SVG.
    """
    axes = [*_rows(frame), *_columns(frame)]
    names = [
        tag("text", x_label, x=WIDTH - RIGHT, y=HEIGHT - 5, text_anchor="end", class_="axis"),
        tag("text", y_label, x=0, y=12, class_="axis"),
    ]
    words = [tag("title", name), tag("desc", description) if description else None]
    return tag("svg", words, axes, names, drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="chart")


def _rows(frame: Frame) -> list[Markup]:
    marked = [(value, frame.height(value)) for value in frame.rows]
    grid = [tag("line", x1=frame.left, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid") for _, y in marked]
    return grid + [tag("text", _short(value), x=frame.left - 6, y=y, dy="0.33em", text_anchor="end") for value, y in marked]


def _columns(frame: Frame) -> list[Markup]:
    marked = [(value, frame.at(value, frame.y[0])[0]) for value in frame.columns]
    return [tag("text", _short(value), x=x, y=HEIGHT - BOTTOM + 16, text_anchor="middle") for value, x in marked]


def _short(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")


def _legend(series: Sequence[Mapping[str, Any]]) -> Markup:
    keys = [
        tag("li", tag("span", class_="key", style=f"background:var(--c{index % COLOURS})"), one["name"]) for index, one in enumerate(series)
    ]
    return tag("ul", keys, class_="legend")
