"""Plots of candidates by cost and quality, with the Pareto front and the limits of the budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.reporting.charts import BOTTOM, HEIGHT, RIGHT, TOP, WIDTH, Frame, figure
from tasks.reporting.formatting import quantity, score
from tasks.reporting.html import Markup, tag

Place = tuple[float, float]
Point = Mapping[str, Any]
RADIUS, DOT = 9.0, 2.5
MIN_DISTANCE = 2 * RADIUS + 2  # of the centres of two discs
LOG_RATIO = 20  # ratio of the largest to the smallest cost above which the axis is logarithmic
MAX_LIMIT = 2  # times the largest cost; a higher limit is not drawn
ANGLES = [math.radians(degrees) for degrees in (-45, -135, 45, 135, -90, 90, 0, 180, -20, -160, 20, 160, -70, -110, 70, 110)]


def pareto_front(places: Sequence[Place]) -> list[int]:
    """Indices of the points (cost, quality) that no other point dominates, by rising cost."""

    def dominated(mine: Place) -> bool:
        return any(other != mine and other[0] <= mine[0] and other[1] >= mine[1] for other in places)

    return sorted((i for i, place in enumerate(places) if not dominated(place)), key=lambda i: places[i])


def pareto_plot(
    points: Sequence[Point], x_label: str, y_label: str, name: str, floor: float | None = None, limit: float | None = None
) -> Markup:
    """A plot of candidates as numbered discs, with their Pareto front as a step line.

    Discs that would overlap are moved aside, with a line to their true position.

    Args:
        points: each with `label`, `x` (the cost), `y` (the quality), and optionally `strong`, which fills its disc.
        x_label: title of the x axis.
        y_label: title of the y axis.
        name: of the chart, for screen readers.
        floor: lowest quality that the budget allows; the area below is shaded; None: no limit.
        limit: highest cost that the budget allows; the area beyond is shaded; None: no limit.

    Returns:
        The chart.
    """
    places = [(float(point["x"]), float(point["y"])) for point in points]
    costs = [cost for cost, _ in places]
    shown = limit if limit is not None and limit <= MAX_LIMIT * max(costs) else None
    corner = (shown if shown is not None else costs[0], floor if floor is not None else places[0][1])
    logarithmic = min(costs) > 0 and max(costs) > LOG_RATIO * min(costs)
    frame = Frame([*places, corner], margin=0.12, logarithmic=logarithmic)
    best = pareto_front(places)
    order = sorted(range(len(points)), key=lambda i: (not points[i].get("strong"), i not in best, i))
    spots = dict(zip(order, _spread([frame.at(*places[i]) for i in order], frame), strict=True))
    discs = [_disc(points[i], i + 1, frame.at(*places[i]), spots[i], i in best) for i in reversed(order)]
    drawn = [*_outside(frame, floor, shown), _steps([frame.at(*places[i]) for i in best]), *discs]
    axis = f"{x_label}, logarithmic" if logarithmic else x_label
    return figure(frame, drawn, axis, y_label, name, _description(points, best, x_label, y_label))


def _spread(places: Sequence[Place], frame: Frame) -> list[Place]:
    """Positions of the discs: their true positions, or else the nearest free spot that covers no true position. Earlier discs take precedence."""
    taken: list[Place] = []

    def free(spot: Place) -> bool:
        inside = frame.left + RADIUS < spot[0] < WIDTH - RADIUS and TOP < spot[1] < HEIGHT - BOTTOM - RADIUS
        return inside and all(math.dist(spot, place) > RADIUS + DOT for place in places) and apart(spot)

    def apart(spot: Place) -> bool:
        return all(math.dist(spot, other) >= MIN_DISTANCE for other in taken)

    for x, y in places:
        around = ((x + way * math.cos(angle), y + way * math.sin(angle)) for way in range(20, 120, 5) for angle in ANGLES)
        taken.append((x, y) if apart((x, y)) else next(filter(free, around), (x, y)))
    return taken


def _disc(point: Point, number: int, place: Place, spot: Place, on_front: bool) -> Markup:
    x, y = round(spot[0], 1), round(spot[1], 1)
    aside = [
        tag("line", x1=place[0], y1=place[1], x2=x, y2=y, class_="leash"),
        tag("circle", cx=place[0], cy=place[1], r=DOT, class_="place"),
    ]
    ring = tag("circle", cx=x, cy=y, r=RADIUS + 3, class_="ring") if point.get("strong") else None
    disc = tag("circle", cx=x, cy=y, r=RADIUS)
    text = tag("text", number, x=x, y=y, dy="0.36em", text_anchor="middle")
    kind = "strong" if point.get("strong") else "" if on_front else "beaten"
    title = tag("title", f"{point['label']}: {quantity(point['x'])}, {score(point['y'])}")
    return tag("g", title, aside if spot != place else None, ring, disc, text, class_=f"disc {kind}".strip())


def _steps(places: Sequence[Place]) -> Markup | None:
    if len(places) < 2:
        return None
    (x, y), *rest = places
    return tag("path", d=f"M{x},{y}" + "".join(f"H{x}V{y}" for x, y in rest), class_="front")


def _outside(frame: Frame, floor: float | None, limit: float | None) -> list[Markup]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x = right if limit is None else frame.at(limit, frame.y[0])[0]
    y = bottom if floor is None else frame.height(floor)
    shaded = f"M{frame.left},{y}H{x}V{TOP}H{right}V{bottom}H{frame.left}z"
    lines = [tag("line", x1=frame.left, x2=right, y1=y, y2=y, class_="floor")] if floor is not None else []
    lines += [tag("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="floor")] if limit is not None else []
    return [tag("path", d=shaded, class_="outside"), *lines] if lines else []


def _description(points: Sequence[Point], best: Sequence[int], x_label: str, y_label: str) -> str:
    """The plot as text, for screen readers."""
    lines = [
        f"{number}, {point['label']}: {y_label} {score(point['y'])}, {x_label} {quantity(point['x'])}"
        f"{', chosen' if point.get('strong') else ''}, {'on the Pareto front' if number - 1 in best else 'dominated'}."
        for number, point in enumerate(points, 1)
    ]
    return " ".join(lines)
