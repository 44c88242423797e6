"""The steps of a flow and what feeds what: in layers, without the arrows that longer ways imply."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.reporting.facts import Step
from tasks.reporting.html import Markup, tag
from tasks.reporting.words import duration

Place = tuple[float, float]
BOX_WIDTH, BOX_HEIGHT = 118, 46
GAP_WIDTH, GAP_HEIGHT = 30, 26


def edges(steps: Sequence[Step]) -> list[tuple[str, str]]:
    """(from, to) of the direct needs only: where a needs b and c, and b needs c, the arrow c to a is left out."""
    needs = {step.name: set(step.needs) for step in steps}

    def ancestors(name: str) -> set[str]:
        direct = needs.get(name, set())
        return direct.union(*(ancestors(one) for one in direct))

    implied = {step.name: set().union(*(ancestors(one) for one in step.needs)) for step in steps}
    return [(need, step.name) for step in steps for need in step.needs if need in needs and need not in implied[step.name]]


def layers(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps by the length of the longest way to them; `steps` are in the order in which they ran."""
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.name] = 1 + max((depth[need] for need in step.needs if need in depth), default=-1)
    return [[step for step in steps if depth[step.name] == level] for level in range(max(depth.values(), default=-1) + 1)]


def drawing(steps: Sequence[Step], across: bool) -> Markup:
    """Inline SVG, the layers from left to right (`across`, for wide screens) or from top to bottom."""
    rows = layers(steps)
    widest = max(len(row) for row in rows)
    places = {step.name: _place(level, i, len(row), widest, across) for level, row in enumerate(rows) for i, step in enumerate(row)}
    width = max(x for x, _ in places.values()) + BOX_WIDTH + 2
    height = max(y for _, y in places.values()) + BOX_HEIGHT + 2
    arrows = [_arrow(places[a], places[b], across) for a, b in edges(steps)]
    boxes = [_box(step, places[step.name]) for step in steps]
    name = "Steps in their order: " + ", ".join(f"{step.name} ({took(step)})" for step in steps)
    shape = f"max-width:{width * 1.15:.0f}px"
    return tag("svg", tag("title", name), arrows, boxes, viewBox=f"0 0 {width} {height}", role="img", class_="dag", style=shape)


def took(step: Step) -> str:
    return "from cache" if step.cached else duration(step.seconds)


def _place(level: int, index: int, count: int, widest: int, across: bool) -> Place:
    sideways = index + (widest - count) / 2
    if across:
        return 2 + level * (BOX_WIDTH + GAP_WIDTH), 2 + sideways * (BOX_HEIGHT + GAP_HEIGHT / 2)
    return 2 + sideways * (BOX_WIDTH + GAP_WIDTH / 2), 2 + level * (BOX_HEIGHT + GAP_HEIGHT)


def _box(step: Step, place: Place) -> Markup:
    x, y = place
    middle = x + BOX_WIDTH / 2
    shape = tag("rect", x=x, y=y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=8)
    name = tag("text", step.name, x=middle, y=y + 20, text_anchor="middle", class_="name")
    time = tag("text", took(step), x=middle, y=y + 36, text_anchor="middle", class_="time")
    return tag("g", shape, name, time, class_="cached" if step.cached else None)


def _arrow(start: Place, end: Place, across: bool) -> Markup:
    if across:
        (x1, y1), (x2, y2) = (start[0] + BOX_WIDTH, start[1] + BOX_HEIGHT / 2), (end[0] - 7, end[1] + BOX_HEIGHT / 2)
        middle = (x1 + x2) / 2
        path, tip = f"M{x1},{y1}C{middle},{y1} {middle},{y2} {x2},{y2}", f"M{x2},{y2 - 4}l7,4l-7,4z"
    else:
        (x1, y1), (x2, y2) = (start[0] + BOX_WIDTH / 2, start[1] + BOX_HEIGHT), (end[0] + BOX_WIDTH / 2, end[1] - 7)
        middle = (y1 + y2) / 2
        path, tip = f"M{x1},{y1}C{x1},{middle} {x2},{middle} {x2},{y2}", f"M{x2 - 4},{y2}l4,7l4,-7z"
    return tag("g", tag("path", d=path, class_="arrow"), tag("path", d=tip, class_="tip"))
