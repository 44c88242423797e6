"""Detection of the columns of a table that hold the text, the labels or the spans: by the settings, by names, by content."""

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
REPEATED = 0.5  # largest number of distinct values per row of a column of labels


class NoLabels(DataError):
    """A table of texts has no labels. It is left out if other tables of the data set have some."""


@dataclass(frozen=True)
class Columns:
    """Columns by number. One column of labels, or several of 0 and 1 (`flags`); for entities spans, or tokens and their tags."""

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
class TableSample:
    """A sample of a table by column: names in lower case, and values of rows from the whole table."""

    table: Table
    names: list[str]
    values: list[list[Any]]

    @classmethod
    def at(cls, table: Table) -> TableSample:
        width = len(table.columns)
        rows = [row for row in table.sample() if len(row) >= width] or [[None] * width]
        return cls(table, [name.strip().casefold() for name in table.columns], [[row[i] for row in rows] for i in range(width)])

    def named(self, known: Sequence[str], among: Sequence[int]) -> int | None:
        """The column with the first of the known names that a column has; None if no column has one."""
        return next((i for name in known for i in among if self.names[i] == name), None)


def choose(table: Table, settings: TextSettings) -> Columns:
    """Detect the columns of a table. If it holds both classes and spans, `settings.task` decides which are read.

    Raises:
        NoLabels: no column holds labels.
        DataError: several columns could hold labels, or a column of the settings does not exist.
    """
    sample = TableSample.at(table)
    every = range(len(sample.names))
    split = sample.named(SPLIT_COLUMNS, every)
    lists = [i for i in every if _all(sample.values[i], lambda v: isinstance(v, list) and not is_spans(v))]
    tokens = sample.named(TOKEN_NAMES, lists)
    tags = sample.named(TAG_NAMES, [i for i in lists if i != tokens])
    if tokens is not None and tags is not None:
        return Columns(tokens=tokens, tags=tags, split=split)
    asked = _numbered(settings.label_column, table, "label") if settings.label_column else ()
    spans = next((i for i in asked or every if _are_spans(sample.values[i])), None)
    plain = [i for i in every if i not in (split, spans)]
    labels, flags = _labels(sample, plain, spans is not None, tuple(i for i in asked if i != spans), settings)
    text = text_columns(sample, [i for i in plain if i not in labels], settings)
    labels = tuple(i for i in labels if i not in text)
    if spans is not None and (settings.task == "entities" or not labels):
        return Columns(text, spans=spans, split=split)
    if not labels:
        raise NoLabels(_no_label_column(table, [table.columns[i] for i in plain if i not in text]))
    return Columns(text, labels, flags, split=split)


def _no_label_column(table: Table, others: Sequence[str]) -> str:
    listed = f"its columns other than the text are {', '.join(others)}" if others else "it has no column other than the text"
    return f"No label column was found in {table.where}: {listed}. Name the column with --usecase.label_column."


def _numbered(asked: str, table: Table, what: str) -> tuple[int, ...]:
    """The numbers of the columns in a setting, by name or number (`text`, `2`), or of several (`title+description`)."""
    found = []
    for name in [asked] if asked in table.columns else asked.split("+"):
        if name not in table.columns and not (name.isdecimal() and int(name) < len(table.columns)):
            raise DataError(f"{table.where} has no column {name!r} (--usecase.{what}_column). Columns: {', '.join(table.columns)}.")
        found.append(table.columns.index(name) if name in table.columns else int(name))
    return tuple(found)


# -- labels -----------------------------------------------------------------------------------------------------------
def _labels(
    sample: TableSample, plain: list[int], has_spans: bool, asked: tuple[int, ...], settings: TextSettings
) -> tuple[tuple[int, ...], bool]:
    """The label columns, and whether they are flags: by the settings, by name, several columns of 0 and 1, or by content."""
    if asked:
        return asked, len(asked) > 1
    kept = _numbered(settings.text_column, sample.table, "text") if settings.text_column else ()
    plain = [i for i in plain if i not in kept]
    named = sample.named(LABEL_NAMES, plain)
    if named is not None or has_spans:
        return (() if named is None else (named,)), False
    flags = tuple(i for i in plain if _all(sample.values[i], lambda v: str(v).strip() in FLAGS))
    if len(flags) > 1 and not sample.table.headless:
        return flags, True
    return _likely(sample, [i for i in plain if kept or i != _longest(sample, plain)]), False


def _likely(sample: TableSample, others: list[int]) -> tuple[int, ...]:
    """The columns that look like labels, which are short and repeat; a single candidate need only repeat once."""
    others = [i for i in others if sample.names[i] not in TEXT_NAMES]
    short = [i for i in others if _distinct(sample.values[i]) <= REPEATED and _length(sample.values[i]) <= 50]
    likely = [i for i in short if len(set(map(str, sample.values[i]))) > 1] or short
    if not likely and len(others) == 1 and _distinct(sample.values[others[0]]) < 1:
        return (others[0],)
    if len(likely) > 1:
        listed = ", ".join(sample.table.columns[i] for i in likely)
        raise DataError(
            f"Several columns of {sample.table.where} could hold the labels: {listed}. Name the column with --usecase.label_column."
        )
    return tuple(likely)


# -- text -------------------------------------------------------------------------------------------------------------
def text_columns(sample: TableSample, others: Sequence[int], settings: TextSettings | None) -> tuple[int, ...]:
    """Detect the columns that make up the text: by the settings, by name, else the column of the longest texts.

    Args:
        sample: sample of the table.
        others: candidates, by number.
        settings: settings that may name the columns; None: they are ignored.

    Returns:
        The columns in their order.

    Raises:
        DataError: no column holds texts.
    """
    if settings and settings.text_column:
        return _numbered(settings.text_column, sample.table, "text")
    named = sample.named([name for name in TEXT_NAMES if name not in PART_NAMES], others)
    if named is not None:
        return (named,)
    parts = tuple(i for i in others if sample.names[i] in PART_NAMES)
    if parts:
        return parts
    longest = _longest(sample, others)
    if longest is None:
        columns = ", ".join(sample.table.columns)
        raise DataError(f"No column of {sample.table.where} holds texts. Columns: {columns}. Name the column with --usecase.text_column.")
    if not sample.table.headless:
        return (longest,)
    shortest = 0.1 * _length(sample.values[longest])
    further = {
        i for i in others if _is_text(sample.values[i]) and _length(sample.values[i]) >= shortest and _distinct(sample.values[i]) > REPEATED
    }
    return tuple(sorted({longest} | further))


def _longest(sample: TableSample, among: Sequence[int]) -> int | None:
    """The column of the longest texts that rarely repeat; a column with a known name is preferred."""
    texts = [i for i in among if _is_text(sample.values[i])]
    by_name = next((i for i in texts if sample.names[i] in TEXT_NAMES), None)
    return (
        by_name if by_name is not None else max(texts, key=lambda i: _distinct(sample.values[i]) * _length(sample.values[i]), default=None)
    )


def _all(column: Sequence[Any], condition: Callable[[Any], bool]) -> bool:
    filled = [value for value in column if value is not None and value != ""]
    return bool(filled) and all(map(condition, filled))


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
    """The labels of a cell that holds several: a list, a list written as text, or text with a separator. None if it holds one."""
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
    """A label as text: for a number its name, if names are given; empty if there is no label."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, float):
        if value != value:
            return ""
        value = int(value) if value.is_integer() else value
    if isinstance(value, int) and names:
        return names[value] if 0 <= value < len(names) else ""
    return str(value).strip()
