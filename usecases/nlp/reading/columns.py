"""Which columns of a table hold the text, the labels, the marked spans: by the settings, by their names, by what they hold."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import DataError
from usecases.nlp.reading.charspans import is_spans
from usecases.reading.splits import SPLIT_COLUMNS
from usecases.reading.tables import Table

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

TEXT_NAMES = (
    "text", "sentence", "review", "tweet", "comment", "comment_text", "question", "utterance", "message", "review_text", "reviewtext",
    "query", "sms", "document", "article", "content", "review_body", "body", "phrase", "headline", "title", "description", "input",
    "文本", "内容", "评论", "句子",
)  # fmt: skip
PART_NAMES = ("title", "headline", "subject", "summary", "abstract", "description", "content", "body")  # of one text, joined in their order
TOKEN_NAMES = ("tokens", "words", "token", "word")
TAG_NAMES = ("ner_tags", "ner", "tags", "labels", "label", "ner_labels", "ner_tag")
LABEL_NAMES = (
    "label_text", "label_name", "label", "labels", "category", "categories", "class", "class_name", "classname", "class index", "intent",
    "sentiment", "emotion", "emotions", "topic", "target", "polarity", "tag", "tags", "y", "coarse_label", "fine_label", "stars", "rating",
    "标签", "类别", "分类",
)  # fmt: skip
KNOWN = (*TEXT_NAMES, *TOKEN_NAMES, *TAG_NAMES, *LABEL_NAMES, *SPLIT_COLUMNS)
FLAGS = ("0", "1", "0.0", "1.0", "True", "False")
REPEATED = 0.5  # distinct values per row up to which a column may hold labels


class NoLabels(DataError):
    """A table of texts without labels; beside others that have some it is left out."""


@dataclass(frozen=True)
class Columns:
    """By number. One column of labels, or several of 0 and 1 (`flags`); spans, or tokens and their tags, for entities."""

    text: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    flags: bool = False
    spans: int | None = None
    tokens: int | None = None
    tags: int | None = None
    split: int | None = None

    @property
    def entities(self) -> bool:
        return self.spans is not None or self.tags is not None


@dataclass(frozen=True)
class Look:
    """A table's columns by number: names in small letters, and the values of rows from all over."""

    table: Table
    names: list[str]
    values: list[list[Any]]

    @classmethod
    def at(cls, table: Table) -> Look:
        width = len(table.columns)
        rows = [row for row in table.sample() if len(row) >= width] or [[None] * width]
        return cls(table, [name.strip().casefold() for name in table.columns], [[row[i] for row in rows] for i in range(width)])

    def named(self, known: Sequence[str], among: Sequence[int]) -> int | None:
        """The first of the known names that one of the columns bears."""
        return next((i for name in known for i in among if self.names[i] == name), None)


def choose(table: Table, settings: TextSettings) -> Columns:
    """The columns of a table. Where it holds both classes and spans, `settings.task` says which are meant.

    Raises:
        NoLabels: no column could hold labels.
        DataError: it cannot be told which does, or a column that was asked for is not there.
    """
    look = Look.at(table)
    every = range(len(look.names))
    split = look.named(SPLIT_COLUMNS, every)
    lists = [i for i in every if _all(look.values[i], lambda v: isinstance(v, list) and not is_spans(v))]
    tokens = look.named(TOKEN_NAMES, lists)
    tags = look.named(TAG_NAMES, [i for i in lists if i != tokens])
    if tokens is not None and tags is not None:
        return Columns(tokens=tokens, tags=tags, split=split)
    asked = _numbered(settings.label_column, table, "label") if settings.label_column else ()
    spans = next((i for i in asked or every if _are_spans(look.values[i])), None)
    plain = [i for i in every if i not in (split, spans)]
    labels, flags = _labels(look, plain, spans is not None, tuple(i for i in asked if i != spans), settings)
    text = text_columns(look, [i for i in plain if i not in labels], settings)
    labels = tuple(i for i in labels if i not in text)
    if spans is not None and (settings.task == "entities" or not labels):
        return Columns(text, spans=spans, split=split)
    if not labels:
        raise NoLabels(_untold(table, [table.columns[i] for i in plain if i not in text]))
    return Columns(text, labels, flags, split=split)


def _untold(table: Table, others: Sequence[str]) -> str:
    told = f"its other columns are {', '.join(others)}" if others else "there is no other column than the text"
    return f"No column of {table.where} could be told to hold the labels: {told}. Say which with --usecase.label_column."


def _numbered(asked: str, table: Table, what: str) -> tuple[int, ...]:
    """`text`, `2`, or several of one kind: `title+description`."""
    found = []
    for name in [asked] if asked in table.columns else asked.split("+"):
        if name not in table.columns and not (name.isdecimal() and int(name) < len(table.columns)):
            raise DataError(f"{table.where} has no column {name!r} (--usecase.{what}_column). Columns: {', '.join(table.columns)}.")
        found.append(table.columns.index(name) if name in table.columns else int(name))
    return tuple(found)


# -- labels -----------------------------------------------------------------------------------------------------------
def _labels(
    look: Look, plain: list[int], beside_spans: bool, asked: tuple[int, ...], settings: TextSettings
) -> tuple[tuple[int, ...], bool]:
    """The columns of labels, and whether they are flags: as asked for, by name, several of 0 and 1, or by what they hold."""
    if asked:
        return asked, len(asked) > 1
    kept = _numbered(settings.text_column, look.table, "text") if settings.text_column else ()
    plain = [i for i in plain if i not in kept]
    named = look.named(LABEL_NAMES, plain)
    if named is not None or beside_spans:
        return (() if named is None else (named,)), False
    flags = tuple(i for i in plain if _all(look.values[i], lambda v: str(v).strip() in FLAGS))
    if len(flags) > 1 and not look.table.headless:
        return flags, True
    return _likely(look, [i for i in plain if kept or i != _longest(look, plain)]), False


def _likely(look: Look, others: list[int]) -> tuple[int, ...]:
    """Labels are short and repeat; where there is a single other column it is enough that one does."""
    others = [i for i in others if look.names[i] not in TEXT_NAMES]
    short = [i for i in others if _distinct(look.values[i]) <= REPEATED and _length(look.values[i]) <= 50]
    likely = [i for i in short if len(set(map(str, look.values[i]))) > 1] or short
    if not likely and len(others) == 1 and _distinct(look.values[others[0]]) < 1:
        return (others[0],)
    if len(likely) > 1:
        told = ", ".join(look.table.columns[i] for i in likely)
        raise DataError(
            f"It cannot be told which column of {look.table.where} holds the labels: {told}. Say which with --usecase.label_column."
        )
    return tuple(likely)


# -- text -------------------------------------------------------------------------------------------------------------
def text_columns(look: Look, others: Sequence[int], settings: TextSettings | None) -> tuple[int, ...]:
    """The columns that make up the text, in their order: as asked for, by name, else the longest.

    Raises:
        DataError: there is none.
    """
    if settings and settings.text_column:
        return _numbered(settings.text_column, look.table, "text")
    named = look.named([name for name in TEXT_NAMES if name not in PART_NAMES], others)
    if named is not None:
        return (named,)
    parts = tuple(i for i in others if look.names[i] in PART_NAMES)
    if parts:
        return parts
    longest = _longest(look, others)
    if longest is None:
        columns = ", ".join(look.table.columns)
        raise DataError(f"No column of {look.table.where} holds texts. Columns: {columns}. Say which with --usecase.text_column.")
    if not look.table.headless:
        return (longest,)
    least = 0.1 * _length(look.values[longest])
    beside = {i for i in others if _is_text(look.values[i]) and _length(look.values[i]) >= least and _distinct(look.values[i]) > REPEATED}
    return tuple(sorted({longest} | beside))


def _longest(look: Look, among: Sequence[int]) -> int | None:
    """The column of long texts that seldom repeat; one with a known name is preferred."""
    texts = [i for i in among if _is_text(look.values[i])]
    by_name = next((i for i in texts if look.names[i] in TEXT_NAMES), None)
    return by_name if by_name is not None else max(texts, key=lambda i: _distinct(look.values[i]) * _length(look.values[i]), default=None)


def _all(column: Sequence[Any], condition: Callable[[Any], bool]) -> bool:
    there = [value for value in column if value is not None and value != ""]
    return bool(there) and all(map(condition, there))


def _are_spans(column: Sequence[Any]) -> bool:
    return any(map(is_spans, column)) and _all(column, lambda v: is_spans(v) or not v)


def _is_text(column: Sequence[Any]) -> bool:
    return any(isinstance(v, str) and v.strip() for v in column) and not _all(column, _is_number)


def _is_number(value: object) -> bool:
    return str(value).strip().lstrip("-").replace(".", "", 1).isdecimal()


def _distinct(column: Sequence[Any]) -> float:
    return len(set(map(str, column))) / max(len(column), 1)


def _length(column: Sequence[Any]) -> float:
    return sum(len(str(v)) for v in column) / max(len(column), 1)


# -- cells ------------------------------------------------------------------------------------------------------------
def as_list(value: Any, separator: str) -> list[Any] | None:
    """The labels of a cell that holds several: a list, one written as text, or text with a separator; None: it holds one."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str) and separator and separator in value:
        return [part.strip() for part in value.split(separator) if part.strip()]
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        try:
            written = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            return None
        return list(written) if isinstance(written, (list, tuple)) else None
    return None


def as_label(value: Any, names: Sequence[str]) -> str:
    """A label as text: the name behind a number where names are known; empty: there is none."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, float):
        if value != value:
            return ""
        value = int(value) if value.is_integer() else value
    if isinstance(value, int) and names:
        return names[value] if 0 <= value < len(names) else ""
    return str(value).strip()
