"""The blocks of an answer as lines for a terminal, and as a one-line summary."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.text import Text

from tasks.contract.blocks import AnswerBlock, Bars, Gauge, Mark, Note, Overlay, Ranking, Words, full_bar
from tasks.reporting.formatting import gauge_value, with_unit

BAR, SCALE = 24, 41  # widths of a full bar and of the scale of a gauge, in characters
MAX_MARKS = 5  # marks without a label that are listed below a text, by weight
CONTROL = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), " ")  # control characters, which must not reach the terminal


def terminal_lines(block: AnswerBlock) -> list[Text]:
    """A block with its title and caption, as lines to print without wrapping.

    Raises:
        KeyError: the kind of the block is unknown, or a field is missing.
    """
    title = Text(_safe(block["title"]), "bold red" if block.get("warning") else "bold")
    caption = block.get("caption", "")
    below = [*([Text(_safe(caption), "dim")] if caption else []), *LINES[block["kind"]](block)]
    return [title, *(Text.assemble("  ", line) for line in below)]


def one_line(blocks: Iterable[AnswerBlock], width: int = 60) -> str:
    """A one-line summary of an answer, such as "cat 97.3 %"."""
    parts = [SUMMARIES[block["kind"]](block) for block in blocks]
    return textwrap.shorten("; ".join(_safe(part) for part in parts if part), width, placeholder=" …")


# -- lines -------------------------------------------------------------------------------------------------------------
def _bars(block: Bars) -> Iterator[Text]:
    longest = full_bar(block["items"], block.get("unit", ""))
    for item in block["items"]:
        value = item.get("value")
        if value is None:
            yield Text(_safe(item["label"]), "dim")
            continue
        bar = "█" * round(min(abs(value) / longest, 1.0) * BAR)
        number = with_unit(value, block.get("unit", ""))
        yield Text.assemble(f"{number:>9}  ", (f"{bar:<{BAR}}", "cyan" if value >= 0 else "red"), f"  {_safe(item['label'])}")


def _words(block: Words) -> Iterator[Text]:
    for item in block["items"]:
        if title := item.get("title"):
            yield Text(_safe(title), "underline")
        yield _marked(item["text"], item["marks"])
        unnamed = [mark for mark in item["marks"] if not mark.get("label")]
        for mark in sorted(unnamed, key=lambda mark: -abs(mark["weight"]))[:MAX_MARKS]:
            yield Text(f"{mark['weight']:+9.2f}  {_safe(item['text'][mark['start'] : mark['end']])}")


def _marked(text: str, marks: Sequence[Mark]) -> Text:
    line, at = Text(), 0
    for mark in marks:
        line.append(_safe(text[at : mark["start"]]))
        line.append(_safe(text[mark["start"] : mark["end"]]), "green" if mark["weight"] >= 0 else "red strike")
        if label := mark.get("label"):
            line.append(f" [{_safe(label)} {mark['weight']:.0%}]", "dim")
        at = mark["end"]
    return line.append(_safe(text[at:]))


def _ranking(block: Ranking) -> Iterator[Text]:
    width = max((len(row["id"]) for row in block["items"]), default=0)
    for number, row in enumerate(block["items"], 1):
        label = "" if row["label"] == row["id"] else f"  {_safe(row['label'])}"
        detail = (f"  {_safe(row.get('detail', ''))}".rstrip(), "dim")
        yield Text.assemble(f"{number:>3}. {row['value']:9.4f}  {_safe(row['id']):<{width}}{label}", detail)


def _overlay(block: Overlay) -> Iterator[Text]:
    if block.get("image"):
        yield Text("(an image, which the web page of the server shows)", "dim")
    for item in block["items"]:
        box = ", ".join(f"{side:g}" for side in item.get("box", ()))
        yield Text.assemble(
            f"{with_unit(item['value'], 'share'):>9}  ", ("■ ", item.get("colour", "")), f"{_safe(item['label']):<14}  ", (box, "dim")
        )


def _gauge(block: Gauge) -> Iterator[Text]:
    low, high = block["low"], block["high"]
    place = round(min(max((block["value"] - low) / ((high - low) or 1.0), 0.0), 1.0) * (SCALE - 1))
    left, right = block.get("ends") or [f"{low:g}", f"{high:g}"]
    yield Text.assemble(
        f"{_safe(gauge_value(block)):>15}  {_safe(left)} ",
        "─" * place,
        ("●", "cyan"),
        "─" * (SCALE - 1 - place),
        f" {_safe(right)}",
    )


def _note(block: Note) -> Iterator[Text]:
    if text := block.get("text"):
        yield Text(_safe(text))


LINES: dict[str, Callable[[Any], Iterator[Text]]] = {
    "bars": _bars,
    "words": _words,
    "ranking": _ranking,
    "overlay": _overlay,
    "gauge": _gauge,
    "note": _note,
}


# -- one line ----------------------------------------------------------------------------------------------------------
def _longest_bar(block: Bars) -> str:
    bars = [(value, item["label"]) for item in block["items"] if (value := item.get("value")) is not None]
    value, label = max(bars, key=lambda bar: bar[0], default=(0.0, ""))
    return f"{label} {with_unit(value, block.get('unit', ''))}" if bars else block["title"]


def _named_marks(block: Words) -> str:
    named = [(item["text"], mark) for item in block["items"] for mark in item["marks"] if "label" in mark]
    return ", ".join(f"{text[mark['start'] : mark['end']]} {mark['label']}" for text, mark in named) or block["title"]


def _items(block: Overlay) -> str:
    return ", ".join(f"{item['label']} {with_unit(item['value'], 'share')}" for item in block["items"]) or block["title"]


SUMMARIES: dict[str, Callable[[Any], str]] = {
    "bars": _longest_bar,
    "words": _named_marks,
    "ranking": lambda block: ", ".join(row["label"] for row in block["items"]) or block["title"],
    "overlay": lambda block: "" if block.get("image") else _items(block),
    "gauge": lambda block: f"{block['title']} {gauge_value(block)}",
    "note": lambda block: block["title"],
}


def _safe(text: str) -> str:
    return text.translate(CONTROL)
