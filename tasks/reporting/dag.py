"""The graph of the steps of a flow, drawn in layers, without edges that longer paths imply (transitive reduction)."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.reporting.facts import Step
from tasks.reporting.formatting import duration
from tasks.reporting.html import Markup, tag

Place = tuple[float, float]
BOX_WIDTH, BOX_HEIGHT = 118, 46
GAP_WIDTH, GAP_HEIGHT = 30, 26
LETTERS = 16  # characters that fit into a box


def edges(steps: Sequence[Step]) -> list[tuple[str, str]]:
    """Edges (from, to) of the transitive reduction: if a needs b and c, and b needs c, the edge from c to a is left out."""
    needs = {step.name: set(step.needs) for step in steps}

    def ancestors(name: str) -> set[str]:
        direct = needs.get(name, set())
        return direct.union(*(ancestors(one) for one in direct))

    implied = {step.name: set().union(*(ancestors(one) for one in step.needs)) for step in steps}
    return [(need, step.name) for step in steps for need in step.needs if need in needs and need not in implied[step.name]]


def slots(steps: Sequence[Step]) -> dict[str, tuple[int, int]]:
    """(layer, lane) of each step: the layer is the length of the longest path to it; the lane is that of a step that it needs, if it is free."""
    placed: dict[str, tuple[int, int]] = {}
    for step in steps:
        parents = [placed[start] for start, end in edges(steps) if end == step.name and start in placed]
        layer = 1 + max((parent_layer for parent_layer, _ in parents), default=-1)
        wanted = [*(lane for _, lane in parents), *range(len(steps))]
        placed[step.name] = layer, next(lane for lane in wanted if (layer, lane) not in placed.values())
    return placed


def drawing(steps: Sequence[Step], across: bool) -> Markup:
    """The graph as inline SVG, with layers from left to right (`across`, for wide screens) or from top to bottom."""
    places = {name: _place(layer, lane, across) for name, (layer, lane) in slots(steps).items()}
    width = max(x for x, _ in places.values()) + BOX_WIDTH + 2
    height = max(y for _, y in places.values()) + BOX_HEIGHT + 2
    arrows = [_arrow(places[a], places[b], across) for a, b in edges(steps)]
    boxes = [_box(step, places[step.name]) for step in steps]
    name = "Steps in their order: " + ", ".join(f"{step.name} ({took(step)})" for step in steps)
    shape = f"max-width:{width * 1.15:.0f}px"
    return tag("svg", tag("title", name), arrows, boxes, viewBox=f"0 0 {width} {height}", role="img", class_="dag", style=shape)


def took(step: Step) -> str:
    return "from cache" if step.cached else duration(step.seconds)


def _place(layer: int, lane: int, across: bool) -> Place:
    if across:
        return 2 + layer * (BOX_WIDTH + GAP_WIDTH), 2 + lane * (BOX_HEIGHT + GAP_HEIGHT / 2)
    return 2 + lane * (BOX_WIDTH + GAP_WIDTH / 2), 2 + layer * (BOX_HEIGHT + GAP_HEIGHT)


def _box(step: Step, place: Place) -> Markup:
    x, y = place
    middle = x + BOX_WIDTH / 2
    shape = tag("rect", x=x, y=y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=8)
    shown = step.name if len(step.name) <= LETTERS else f"{step.name[: LETTERS - 1]}…"
    name = tag("text", shown, x=middle, y=y + 20, text_anchor="middle", class_="name")
    time = tag("text", took(step), x=middle, y=y + 36, text_anchor="middle", class_="time")
    return tag("g", shape, name, time, class_="cached" if step.cached else None)


def _arrow(start: Place, end: Place, across: bool) -> Markup:
    """An arrow that stays in its lane as long as possible, so that it does not cross boxes."""
    if across:
        (x1, y1), (x2, y2) = (start[0] + BOX_WIDTH, start[1] + BOX_HEIGHT / 2), (end[0] - 7, end[1] + BOX_HEIGHT / 2)
        bend, middle = x2 - GAP_WIDTH + 7, x2 - GAP_WIDTH / 2 + 4
        path, tip = f"M{x1},{y1}H{bend}C{middle},{y1} {middle},{y2} {x2},{y2}", f"M{x2},{y2 - 4}l7,4l-7,4z"
    else:
        (x1, y1), (x2, y2) = (start[0] + BOX_WIDTH / 2, start[1] + BOX_HEIGHT), (end[0] + BOX_WIDTH / 2, end[1] - 7)
        bend, middle = y2 - GAP_HEIGHT + 7, y2 - GAP_HEIGHT / 2 + 4
        path, tip = f"M{x1},{y1}V{bend}C{x1},{middle} {x2},{middle} {x2},{y2}", f"M{x2 - 4},{y2}l4,7l4,-7z"
    return tag("g", tag("path", d=path, class_="arrow"), tag("path", d=tip, class_="tip"))
