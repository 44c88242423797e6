"""Texts with labels or spans from the rows of tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tasks.contract.findings import Findings
from usecases.nlp.reading import charspans
from usecases.nlp.reading.columns import Columns, NoLabels, TableSample, as_label, as_list, choose, text_columns
from usecases.nlp.reading.conll import Sentences
from usecases.nlp.sources import Item, Source, Span
from usecases.reading.splits import YES, split_of_cell
from usecases.reading.tables import Table

if TYPE_CHECKING:
    from usecases.nlp import TextSettings


def read_tables(tables: Sequence[Table], settings: TextSettings, findings: Findings) -> Source:
    """Read the texts of the tables of one data set. A table without labels is left out if others have some.

    Args:
        tables: the tables.
        settings: settings that may name the columns.
        findings: problems of the tables are added to them.

    Returns:
        The texts with labels or spans.

    Raises:
        DataError: the columns of the text or the labels are not found.
    """
    chosen = _chosen(tables, settings, findings)
    first, columns = chosen[0]
    named = "without a header" if first.headless else "with a header"
    if columns.tags is not None:
        return _tagged(chosen, settings, findings)
    if columns.spans is not None:
        items = [item for table, columns in chosen for item in _marked(table, columns, findings)]
        return Source("objects with character spans", "entities", items, findings=findings)
    items, several = [], False
    for table, columns in chosen:
        for item, many in _labelled(table, columns, settings, findings):
            items.append(item)
            several = several or many
    roles = f"text {_listed(first, columns.text)}, label {_listed(first, columns.labels)}"
    return Source(f"a table {named}: {roles}", "classification", items, several, findings)


def texts_of(table: Table) -> Iterator[str]:
    """The texts of a table without their labels."""
    sample = TableSample.at(table)
    text = text_columns(sample, range(len(sample.names)), None)
    return (_text(row, text) for _, row in table.rows())


def _chosen(tables: Sequence[Table], settings: TextSettings, findings: Findings) -> list[tuple[Table, Columns]]:
    """The columns of each table. Tables with the same columns are read alike, as detected on training data if there are any."""
    found: list[tuple[Table, Columns]] = []
    lacking: list[tuple[Table, NoLabels]] = []
    detected: dict[tuple[str, ...], Columns] = {}
    for table in sorted(tables, key=lambda t: t.split != "train"):
        key = tuple(table.columns)
        try:
            detected[key] = detected.get(key) or choose(table, settings)
            found.append((table, detected[key]))
        except NoLabels as none:
            lacking.append((table, none))
    if not found:
        raise lacking[0][1]
    for table, _ in lacking:
        findings.note("table without labels", f"{table.where}: {', '.join(table.columns)}", "left out")
    return found


def _listed(table: Table, columns: Sequence[int]) -> str:
    return " + ".join(table.columns[i] for i in columns)


# -- classes ----------------------------------------------------------------------------------------------------------
def _labelled(table: Table, columns: Columns, settings: TextSettings, findings: Findings) -> Iterator[tuple[Item, bool]]:
    """Each text, and whether its row has several labels or none in a way that several are allowed."""
    names = table.classes.get(table.columns[columns.labels[0]], [])
    for name, row in table.rows():
        if len(row) <= max(*columns.text, *columns.labels):
            findings.set_aside("row with too few columns", name)
            continue
        if columns.flags:
            labels: list[str] | None = [table.columns[i] for i in columns.labels if str(row[i]).strip().casefold() in YES]
            several = len(labels) != 1
        else:
            cell = row[columns.labels[0]]
            listed = as_list(cell, settings.label_separator)
            labels = [as_label(one, names) for one in ([cell] if listed is None else listed)]
            several = listed is not None and len(labels) != 1
        yield Item(name, _text(row, columns.text), tuple(dict.fromkeys(filter(None, labels))), (), _split(table, columns, row)), several


def _text(row: Sequence[Any], columns: Sequence[int]) -> str:
    if len(columns) == 1:
        return "" if len(row) <= columns[0] or row[columns[0]] is None else str(row[columns[0]])
    return " ".join(str(row[i]).strip() for i in columns if i < len(row) and row[i] is not None and str(row[i]).strip())


def _split(table: Table, columns: Columns, row: Sequence[Any]) -> str | None:
    if columns.split is None or len(row) <= columns.split:
        return table.split
    return split_of_cell(table.columns[columns.split], row[columns.split]) or table.split


# -- entities ---------------------------------------------------------------------------------------------------------
def _marked(table: Table, columns: Columns, findings: Findings) -> Iterator[Item]:
    spans, text = columns.spans, columns.text
    assert spans is not None
    inclusive = charspans.are_inclusive((row[spans], _text(row, text)) for row in table.sample() if len(row) > spans)
    for name, row in table.rows():
        value, written = row[spans] if len(row) > spans else None, _text(row, text)
        try:
            found: tuple[Span, ...] = tuple(charspans.read(value, written, inclusive))
        except charspans.BadSpan as bad:
            findings.set_aside("span that cannot be read", f"{name}: {bad}")
            continue
        for wrong in charspans.misread(value, written, inclusive):
            findings.note("span whose text differs from its quoted surface", f"{name}: {wrong}", "its offsets are used")
        yield Item(name, written, (), found, _split(table, columns, row))


def _tagged(chosen: Sequence[tuple[Table, Columns]], settings: TextSettings, findings: Findings) -> Source:
    """Read rows that hold a list of tokens and a list of their tags."""
    sentences = Sentences()
    for table, columns in chosen:
        assert columns.tokens is not None and columns.tags is not None
        names = table.classes.get(table.columns[columns.tags], [])
        for name, row in table.rows():
            tokens, tags = row[columns.tokens] or [], [as_label(tag, names) for tag in row[columns.tags] or []]
            if len(tokens) != len(tags):
                findings.set_aside("row with different numbers of tokens and tags", f"{name}: {len(tokens)} and {len(tags)}")
            else:
                sentences.add(name, [str(t) for t in tokens], tags, _split(table, columns, row))
    return sentences.source("rows of tokens and tags", findings)
