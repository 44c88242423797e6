"""Blocks: how an answer or a model is shown to people, as JSON that can be drawn without knowing the vertical.

A codec returns `AnswerBlock`s with its answers. The command line (`tasks.reporting.terminal_blocks`), the page (`tasks/serving/page/page.js`)
and the report (`tasks.reporting.blocks`) draw every kind of `AnswerBlock`; the report also draws the kinds of `ReportBlock`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NotRequired, get_args, get_type_hints

from typing_extensions import TypedDict  # which pydantic can validate on Python 3.11, too


class Titled(TypedDict):
    """The fields that all blocks have."""

    title: str
    caption: NotRequired[str]


# -- of an answer ------------------------------------------------------------------------------------------------------
class Bar(TypedDict):
    """One bar of `Bars`."""

    label: str
    value: NotRequired[float | None]  # without a value, the label is a remark between bars


class Bars(Titled):
    """A bar chart with a horizontal bar for each item; the largest value has the full width.

    With the unit "share", values in [0, 1] are shown as percentages, and 1 has the full width.
    """

    kind: Literal["bars"]
    items: list[Bar]
    unit: NotRequired[str]


class Mark(TypedDict):
    """A highlighted part of a text; marks do not overlap and are in the order of the text."""

    start: int  # in characters of the text
    end: int
    weight: float  # in [-1, 1], the strength of the colour; negative: evidence against the prediction
    label: NotRequired[str]


class MarkedText(TypedDict):
    """A text with its highlighted parts."""

    title: NotRequired[str]
    text: str
    marks: list[Mark]


class Words(Titled):
    """Texts with highlighted parts."""

    kind: Literal["words"]
    items: list[MarkedText]


class Row(TypedDict):
    """One item of a `Ranking`."""

    id: str
    label: str
    value: float
    detail: NotRequired[str]


class Ranking(Titled):
    """A ranked list, best first. On the page of a model that takes a history, people can add a row to their history by its id."""

    kind: Literal["ranking"]
    items: list[Row]


class Region(TypedDict):
    """A class of pixels, or a bounding box, of an `Overlay`."""

    label: str
    value: float  # in [0, 1]: confidence, or share of the image
    colour: NotRequired[str]  # such as "#1f5fbf"
    box: NotRequired[list[float]]  # left, top, right and bottom in pixels of the image


class Overlay(Titled):
    """The image of the request with the detections drawn over it, and a legend of pixel classes and boxes."""

    kind: Literal["overlay"]
    image: NotRequired[str]  # data URI; without an image only the legend is shown
    items: list[Region]


class Gauge(Titled):
    """One number on its scale, with as many decimals as the scale needs, and a plus where the scale has a negative part."""

    kind: Literal["gauge"]
    value: float
    deviation: NotRequired[float]
    unit: NotRequired[str]
    low: float
    high: float
    ends: NotRequired[list[str]]  # what the low and the high end of the scale mean, such as left and right


class Note(Titled):
    """A sentence; with `warning` it is highlighted."""

    kind: Literal["note"]
    text: NotRequired[str]
    warning: NotRequired[bool]


AnswerBlock = Bars | Words | Ranking | Overlay | Gauge | Note


# -- of a report -------------------------------------------------------------------------------------------------------
class Table(Titled):
    """A table with a header."""

    kind: Literal["table"]
    columns: list[str]
    rows: list[list[Any]]


class Series(TypedDict):
    """One line of `Lines`."""

    name: str
    x: list[float]
    y: list[float | None]
    dashed: NotRequired[bool]


class Lines(Titled):
    """A line chart."""

    kind: Literal["lines"]
    series: list[Series]
    x_label: NotRequired[str]
    y_label: NotRequired[str]


class Point(TypedDict):
    """One point of a `Scatter`."""

    label: str
    x: float
    y: float
    size: NotRequired[float]
    strong: NotRequired[bool]


class Scatter(Titled):
    """A scatter plot."""

    kind: Literal["scatter"]
    points: list[Point]
    x_label: NotRequired[str]
    y_label: NotRequired[str]


class Matrix(Titled):
    """A heat map. `labels` name both rows and columns, unless `rows` and `columns` do. With `diagonal`, the diagonal has its own colour."""

    kind: Literal["matrix"]
    values: list[list[float]]
    labels: NotRequired[list[str]]
    rows: NotRequired[list[str]]
    columns: NotRequired[list[str]]
    row_label: NotRequired[str]
    column_label: NotRequired[str]
    diagonal: NotRequired[bool]


class Picture(TypedDict):
    """One image of a `Gallery`."""

    image: str  # data URI
    alt: NotRequired[str]
    lines: NotRequired[list[str]]


class Gallery(Titled):
    """Images in a grid."""

    kind: Literal["gallery"]
    items: list[Picture]
    large: NotRequired[bool]


ReportBlock = AnswerBlock | Table | Lines | Scatter | Matrix | Gallery


def kinds(blocks: Any) -> tuple[str, ...]:
    """The values of `kind` in `AnswerBlock` or `ReportBlock`."""
    return tuple(get_args(get_type_hints(block)["kind"])[0] for block in get_args(blocks))


def probability_bars(title: str, probabilities: Iterable[tuple[str, float]]) -> Bars:
    """`Bars` of labels with their probabilities; a usual title is the most probable label."""
    return Bars(kind="bars", title=title, unit="share", items=[Bar(label=label, value=value) for label, value in probabilities])


def full_bar(items: Iterable[Mapping[str, Any]], unit: str = "") -> float:
    """The value that has the full width among the items of `Bars`; never 0."""
    if unit == "share":
        return 1.0
    return max((abs(value) for item in items if (value := item.get("value")) is not None), default=0.0) or 1.0


def plain_blocks(answer: Mapping[str, Any]) -> list[AnswerBlock]:
    """Default blocks of an answer: bars for each group of probabilities by label, and a note with the plain values."""
    groups = [(name, probabilities) for name, value in answer.items() if (probabilities := _probabilities(value))]
    values = ", ".join(f"{name} {value}" for name, value in answer.items() if isinstance(value, str | int | float))
    notes: list[AnswerBlock] = [Note(kind="note", title=values or "Answered")] if values or not groups else []
    return [*notes, *(probability_bars(name, probabilities) for name, probabilities in groups)]


def _probabilities(value: Any) -> list[tuple[str, float]]:
    """The pairs of `{label: probability}` or of a list of objects with one text and one probability each; of anything else no pairs."""
    rows = list(value.items()) if isinstance(value, Mapping) else []
    if isinstance(value, list) and all(isinstance(row, Mapping) and len(row) == 2 for row in value):
        rows = [tuple(sorted(row.values(), key=lambda one: not isinstance(one, str))) for row in value]
    fits = all(isinstance(label, str) and isinstance(share, float) and 0 <= share <= 1 for label, share in rows)
    return [(label, share) for label, share in rows] if fits else []
