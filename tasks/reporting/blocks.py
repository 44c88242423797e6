"""Draws the blocks of `tasks.contract.blocks` as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.contract.blocks import full_bar
from tasks.reporting import charts
from tasks.reporting.formatting import gauge_value, plain, with_unit
from tasks.reporting.html import Markup, tag

Block = Mapping[str, Any]
MAX_ROWS = 16  # of a table that is shown in full height
MAX_COLUMNS = 12  # of a matrix that is shown in one column of the page
LABEL_LENGTH = 16  # characters of the labels of a matrix
COLOUR = re.compile(r"#[0-9a-f]{6}")
NUMBER = re.compile(r"–|[-+−]?[\d,]*\.?\d+ ?%?")


def draw(block: Block) -> Markup:
    """Draw a block with its title and caption.

    Raises:
        KeyError: the kind of the block is unknown, or a field is missing.
    """
    caption = tag("p", block["caption"], class_="muted") if block.get("caption") else None
    wide = block["kind"] in ("gallery", "words", "ranking") or (block["kind"] == "matrix" and len(block["values"]) > MAX_COLUMNS)
    return tag("article", tag("h3", block["title"]), caption, KINDS[block["kind"]](block), class_=wide and "wide")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], name: str, marked: int | None = None) -> Markup:
    """A scrollable table; columns of numbers are aligned to the right.

    Args:
        columns: headings.
        rows: one value per column; `Markup` is inserted unescaped.
        name: of the table, for screen readers.
        marked: index of the row to highlight; with it, the table becomes a list of cards on narrow screens.

    Returns:
        The table.
    """
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    cards = marked is not None
    head = tag("tr", [tag("th", column, scope="col", class_=right[i] and "num") for i, column in enumerate(columns)])
    body = [
        tag("tr", [_cell(value, right[i], cards and columns[i]) for i, value in enumerate(row)], class_=number == marked and "marked")
        for number, row in enumerate(rows)
    ]
    drawn = tag("table", tag("thead", head), tag("tbody", body), class_=cards and "cards")
    return scrolling(drawn, name, limited=len(rows) > MAX_ROWS)


def scrolling(content: Markup, name: str, limited: bool = False) -> Markup:
    """A scrollable area that can be reached by keyboard.

    Args:
        content: which may be wider than the screen.
        name: of the area, for screen readers.
        limited: whether its height is limited.

    Returns:
        The area.
    """
    return tag("div", content, class_="scroll limited" if limited else "scroll", tabindex=0, role="region", aria_label=name)


def bars(items: Sequence[Mapping[str, Any]], unit: str = "") -> Markup:
    """A horizontal bar per item; an item without a value is shown as a remark."""
    longest = full_bar(items, unit)
    return tag("ul", [_bar(item["label"], item.get("value"), longest, unit) for item in items], class_="bars")


def matrix(block: Block) -> Markup:
    """A heat map as a table. With `diagonal`, such as for a confusion matrix, the diagonal has its own colour and scale."""
    rows, columns = block.get("rows") or block["labels"], block.get("columns") or block["labels"]
    has_diagonal = bool(block.get("diagonal"))
    cells = [(i, j, float(value)) for i, row in enumerate(block["values"]) for j, value in enumerate(row)]
    maxima = {on: max((v for i, j, v in cells if (has_diagonal and i == j) == on), default=0.0) or 1.0 for on in (True, False)}
    head = tag("tr", tag("th"), [tag("th", tag("span", _shortened(label)), scope="col", title=label) for label in columns])
    body = [
        tag(
            "tr",
            tag("th", _shortened(label), scope="row", title=label),
            [_heat(value, has_diagonal and i == j, maxima) for j, value in enumerate(row)],
        )
        for i, (label, row) in enumerate(zip(rows, block["values"], strict=True))
    ]
    axes = f"rows: {block.get('row_label', 'row')}, columns: {block.get('column_label', 'column')}"
    drawn = scrolling(tag("table", tag("thead", head), tag("tbody", body), class_="matrix"), f"{block['title']}, {axes}")
    return tag("div", tag("p", axes[0].upper() + axes[1:], class_="muted"), drawn)


def gallery(items: Sequence[Mapping[str, Any]], large: bool = False) -> Markup:
    """Images with a few lines of text each, small squares or `large` ones with their own aspect ratio; only data URIs are shown."""
    return tag("div", [_picture(item) for item in items], class_="gallery large" if large else "gallery")


def words(items: Sequence[Mapping[str, Any]]) -> Markup:
    """Texts with highlighted parts. Weights are in [-1, 1]: larger ones have a stronger colour, and negative ones are struck through."""
    return tag("div", [_marked_text(item) for item in items], class_="texts")


def ranking(items: Sequence[Mapping[str, Any]]) -> Markup:
    """A ranked list, best first, with labels, values and ids."""
    rows = [
        tag(
            "li",
            tag("span", row["label"]),
            tag("span", " · ".join(_remarks(row)), class_="why"),
            tag("span", plain(row["value"]), class_="num"),
        )
        for row in items
    ]
    return tag("ol", rows, class_="ranking")


def overlay(block: Block) -> Markup:
    """An image with its legend below."""
    image = str(block.get("image", ""))
    drawn = tag("img", src=image, alt=block["title"], loading="lazy") if image.startswith("data:image/") else None
    return tag("figure", drawn, tag("ul", [_region(item) for item in block["items"]], class_="regions"), class_="overlay")


def gauge(block: Block) -> Markup:
    """A scale with a needle, and a band of one standard deviation on both sides."""
    low, high, value, deviation = (float(block.get(name, 0.0)) for name in ("low", "high", "value", "deviation"))

    def place(at: float) -> float:
        return 100 * min(max((at - low) / ((high - low) or 1.0), 0.0), 1.0)

    left, right = place(value - deviation), place(value + deviation)
    band = tag("i", class_="band", style=f"left:{left:.1f}%;width:{right - left:.1f}%")
    scale = tag("div", band, tag("i", class_="needle", style=f"left:{place(value):.1f}%"), class_="scale")
    ends = [tag("span", end) for end in block.get("ends") or (f"{low:g}", f"{high:g}")]
    return tag("div", scale, tag("p", ends[0], tag("strong", gauge_value(block)), ends[1]), class_="gauge")


def note(block: Block) -> Markup:
    """A paragraph, which may be a warning."""
    return tag("p", block.get("text", ""), class_="warning" if block.get("warning") else None)


def _remarks(row: Mapping[str, Any]) -> list[str]:
    return [str(part) for part in (row.get("detail"), row["id"] if row["id"] != row["label"] else None) if part]


def _region(item: Mapping[str, Any]) -> Markup:
    swatch = tag("i", class_="swatch", style=f"background:{item['colour']}") if COLOUR.fullmatch(item.get("colour", "")) else None
    return tag("li", swatch, tag("span", item["label"]), tag("span", with_unit(item["value"], "share"), class_="num"))


def _is_number(value: object) -> bool:
    """Whether a cell is aligned as a number: also formatted numbers such as 1,024 or −3.1 %, and empty cells."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return NUMBER.fullmatch(value) is not None
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: object, right: bool, name: object) -> Markup:
    return tag("td", value if isinstance(value, Markup) else plain(value), class_=right and "num", data_name=name)


def _bar(label: str, value: float | None, longest: float, unit: str) -> Markup:
    if value is None:
        return tag("li", tag("span", label, class_="remark"))
    width = 100 * min(abs(value) / longest, 1.0)
    filled = tag("span", tag("i", style=f"width:{width:.1f}%", class_="against" if value < 0 else None), class_="track")
    return tag("li", tag("span", label, class_="label", title=label), filled, tag("span", with_unit(value, unit), class_="num"))


def _shortened(label: object) -> str:
    """Both ends of a long label, since numbered classes differ at the end."""
    text = str(label)
    return text if len(text) <= LABEL_LENGTH else f"{text[: LABEL_LENGTH // 2]}…{text[-LABEL_LENGTH // 2 + 1 :]}"


def _heat(value: float, diagonal: bool, maxima: Mapping[bool, float]) -> Markup:
    strength = value / maxima[diagonal]
    shade = f"--a:{0.12 + 0.78 * strength:.2f}" if value else None
    names = " ".join(["right" if diagonal else "", "hot" if strength > 0.5 else ""]).strip()
    return tag("td", plain(value) if value % 1 else f"{int(value):,}" if value else "·", style=shade, class_=names or None)


def _marked_text(item: Mapping[str, Any]) -> Markup:
    text, at, parts = str(item["text"]), 0, []
    for mark in item["marks"]:
        parts += [text[at : mark["start"]], _mark(text[mark["start"] : mark["end"]], float(mark["weight"]), mark.get("label"))]
        at = mark["end"]
    return tag("figure", tag("figcaption", tag("strong", item.get("title"))), tag("p", *parts, text[at:], dir="auto"))


def _mark(part: str, weight: float, label: str | None) -> Markup:
    against = weight < 0
    named = tag("small", label) if label else None
    return tag("mark", part, named, style=f"--a:{min(abs(weight), 1):.2f}", class_="against" if against else None, title=f"{weight:+.2f}")


def _picture(item: Mapping[str, Any]) -> Markup:
    image = str(item["image"])
    shown = tag("img", src=image, alt=item.get("alt", ""), loading="lazy") if image.startswith("data:image/") else None
    first, *rest = item.get("lines", [""])
    return tag("figure", shown, tag("figcaption", tag("strong", first), [tag("span", line) for line in rest]))


KINDS: dict[str, Callable[[Block], Markup]] = {
    "table": lambda b: table(b["columns"], b["rows"], b["title"]),
    "bars": lambda b: bars(b["items"], b.get("unit", "")),
    "lines": lambda b: charts.lines(b["series"], b.get("x_label", ""), b.get("y_label", ""), b["title"]),
    "scatter": lambda b: charts.scatter(b["points"], b.get("x_label", ""), b.get("y_label", ""), b["title"]),
    "matrix": matrix,
    "gallery": lambda b: gallery(b["items"], b.get("large", False)),
    "words": lambda b: words(b["items"]),
    "ranking": lambda b: ranking(b["items"]),
    "overlay": overlay,
    "gauge": gauge,
    "note": note,
}
