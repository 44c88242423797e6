"""Readers of tables: CSV, TSV and JSON lines row by row, and JSON documents."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.reading.encodings import TextFile
from usecases.reading.splits import split_of

Rows = Iterator[tuple[str, list[Any]]]
IsHeader = Callable[[Sequence[Sequence[str]]], bool]
SEPARATORS = "\t,;|"
SNIFFED = 200
SAMPLED = 1000
MAX_NAME_CHARACTERS = 40  # of the name of a column
MAX_RECORD_LINES = 5000  # a longer record is due to a quotation mark that is not closed


@dataclass(frozen=True)
class DataFile:
    """A file of a data set, its name in reports, and the split after which it or its folder is named."""

    path: Path
    name: str
    split: str | None = None


@dataclass(frozen=True)
class Dialect:
    """How a table is written: the separator of its cells, and whether quotation marks enclose cells."""

    separator: str
    quoted: bool = True


@dataclass
class Table:
    """A table that can be read repeatedly. Columns without names are named by their numbers from 0."""

    where: str
    columns: list[str]
    rows: Callable[[], Rows]
    split: str | None = None
    headless: bool = False
    classes: dict[str, list[str]] = field(default_factory=dict)
    """The names of numbered classes, by column."""

    def sample(self) -> list[list[Any]]:
        """Rows from the whole table, so that a table that is sorted by label shows all its labels."""
        kept, step = [], 1
        for number, (_, row) in enumerate(self.rows()):
            if number % step == 0:
                kept.append(row)
                if len(kept) >= 2 * SAMPLED:
                    kept, step = kept[::2], 2 * step
        return kept


# -- separated values -------------------------------------------------------------------------------------------------
def separated(data_file: DataFile, file: TextFile, is_header: IsHeader, expected: str) -> Table:
    """Open a table of separated values, such as CSV or TSV.

    Args:
        data_file: the file.
        file: its text.
        is_header: whether the first of some rows holds the names of the columns.
        expected: what the file should hold, as a sentence for the error.

    Returns:
        The table.

    Raises:
        DataError: the file is empty.
    """
    dialect = dialect_of(file.head)
    first = [row for _, row in _first(_records(data_file, file, dialect, 0), SNIFFED)]
    if not first:
        raise DataError(f"{data_file.path} is empty. {expected}")
    headed = is_header(first)
    columns = [name.strip() or str(i) for i, name in enumerate(first[0])] if headed else [str(i) for i in range(_width(first))]
    return Table(data_file.name, columns, lambda: _records(data_file, file, dialect, int(headed)), data_file.split, headless=not headed)


def named_rows(path: Path, encoding: str, findings: Findings, dialect: Dialect | None = None) -> Iterator[dict[str, str]]:
    """Read the rows of a table of separated values with a header.

    Args:
        path: the file.
        encoding: its encoding; empty: detected.
        findings: an encoding other than UTF-8 is added to them.
        dialect: how the table is written; None: detected.

    Yields:
        The cells of each row by the names of their columns.
    """
    file = TextFile(path, encoding, findings)
    names: list[str] = []
    for _, row in _records(DataFile(path, path.name), file, dialect or dialect_of(file.head), 0):
        if names:
            yield dict(zip(names, row, strict=False))
        else:
            names = [name.strip() for name in row]


def headed_by(known: Sequence[str]) -> IsHeader:
    """A test for headers: the first row is a header if it has a `known` name, or differs from the others."""
    return lambda rows: _is_header(rows, known)


def dialect_of(lines: Sequence[str]) -> Dialect:
    """Detect the dialect of a table from its first lines."""
    separator = separator_of(lines)
    return Dialect(separator, _is_quoted(lines, separator))


def cells_of(line: str, dialect: Dialect) -> list[str]:
    """The cells of one line."""
    return next(csv.reader([line], delimiter=dialect.separator, quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE), [])


def separator_of(lines: Sequence[str]) -> str:
    """The separator that splits most lines into the same number of cells, more than one; a comma if none does."""
    rows = [line for line in lines[:SNIFFED] if line.strip()]

    def agreement(separator: str) -> float:
        widths = Counter(len(row) for row in csv.reader(rows, delimiter=separator))
        width, count = max(widths.items(), key=lambda w: (w[1], w[0]), default=(1, 0))
        return count / sum(widths.values()) if width > 1 else 0

    best = max(SEPARATORS, key=agreement)
    return best if agreement(best) else ","


def _is_quoted(lines: Sequence[str], separator: str) -> bool:
    """Whether quotation marks enclose cells. In most TSV files they are plain characters; then lines have equal numbers of tabs."""
    if separator in ",;":
        return True
    cells = [cell for line in lines for cell in line.split(separator) if cell.startswith('"')]
    equal = len({line.count(separator) for line in lines if line.strip()}) <= 1
    return not equal or (bool(cells) and all(len(cell) > 1 and cell.endswith('"') for cell in cells))


def _records(data_file: DataFile, file: TextFile, dialect: Dialect, skip: int) -> Rows:
    csv.field_size_limit(sys.maxsize)  # texts can be longer than the default
    start, number, marks = 1, 0, 0

    def lines() -> Iterator[str]:
        nonlocal marks
        for line in file.lines():
            marks += line.count('"')
            yield line + "\n"

    reader = csv.reader(lines(), delimiter=dialect.separator, quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE)
    for row in reader:
        several = reader.line_num - start
        if several > MAX_RECORD_LINES or (several and marks % 2):  # with an odd number the last is open until the end of the file
            raise DataError(f"{data_file.path} line {start} opens a quotation mark that is not closed at the end of its text. Close it.")
        if any(cell.strip() for cell in row):
            if number >= skip:
                yield f"{data_file.name} line {start}", row
            number += 1
        start, marks = reader.line_num + 1, 0


def _first(rows: Rows, count: int) -> list[tuple[str, list[Any]]]:
    return [row for row, _ in zip(rows, range(count), strict=False)]


def _width(rows: Sequence[Sequence[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0]


def _is_header(rows: Sequence[Sequence[str]], known: Sequence[str]) -> bool:
    """Whether the first row has a known name that is not a value of its column, or differs from the other rows."""
    first, rest = [cell.strip().casefold() for cell in rows[0]], [row for row in rows[1:] if len(row) == len(rows[0])]
    names = [cell for cell in first if cell]  # the column of an index may have no name
    if len(set(names)) < len(names) or any(len(name) > MAX_NAME_CHARACTERS or name.lstrip("-").isdigit() for name in names):
        return False
    columns = [{cell.strip().casefold() for cell in column} for column in zip(*rest, strict=True)] or [set()] * len(first)
    if any(name in known and name not in column for name, column in zip(first, columns, strict=True)):
        return True
    return len(rest) > 2 and all(first) and _is_unlike(first, columns, rest)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_unlike(first: Sequence[str], columns: Sequence[set[str]], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first row differs from the others: words above numbers, or short words above repeated labels and long texts."""
    if any(all(map(_is_number, column)) for column in columns) and not any(map(_is_number, first)):
        return True
    longest = max(sum(map(len, column)) / len(rest) for column in zip(*rest, strict=True))
    repeated = any(len(column) <= len(rest) / 2 and name not in column for name, column in zip(first, columns, strict=True))
    return repeated and longest > 2 * max(map(len, first))


def as_text(table: Table) -> Table:
    """The same table, its cells as a CSV would have them."""
    return replace(table, rows=lambda: ((name, ["" if cell is None else str(cell) for cell in row]) for name, row in table.rows()))


# -- JSON -------------------------------------------------------------------------------------------------------------
def json_lines(data_file: DataFile, file: TextFile, findings: Findings, expected: str) -> Table:
    """Open JSON lines with an object, or a list of cells, per line.

    Args:
        data_file: the file.
        file: its text.
        findings: lines of other content are added to them.
        expected: content of each object, such as "a text with its label", for errors.

    Returns:
        The table, whose columns are the keys of the objects.

    Raises:
        DataError: the file holds no objects.
    """
    once = iter([findings])  # bad lines are reported by the first reading only
    expected = f"a JSON object with {expected} per line"
    return _of_objects(data_file, lambda: _json_values(data_file, file, next(once, None)), data_file.split, expected)


def _json_values(data_file: DataFile, file: TextFile, findings: Findings | None) -> Iterator[tuple[str, Any]]:
    for number, line in file.numbered():
        name = f"{data_file.name} line {number}"
        try:
            value = json.loads(line)
        except ValueError as error:
            value = f"{name}: {error}"
        if isinstance(value, (dict, list)):
            yield name, value
        elif findings is not None:
            findings.set_aside("line that is not a JSON object", value if isinstance(value, str) else name)


def json_document(data_file: DataFile, file: TextFile, expected: str) -> list[Table]:
    """Open a JSON document: a list of objects or of lists, at the top or under a key; or one such list per split, under its name.

    Args:
        data_file: the file.
        file: its text.
        expected: content of each object, such as "a text with its label", for errors.

    Returns:
        A table for each list.

    Raises:
        DataError: the file is not JSON, or holds no such list.
    """
    shape = f"a list of objects, each with {expected}"
    try:
        content = json.loads(file.text())
    except ValueError as error:
        raise DataError(f"{data_file.path} cannot be read as JSON: {error}. It should hold {shape}.") from None
    if isinstance(content, list):
        content = {"": content}
    lists = {key: value for key, value in content.items() if not key or _is_rows(value)} if isinstance(content, dict) else {}
    if not lists or not any(lists.values()):
        raise DataError(f"{data_file.path} holds no list of objects. It should hold {shape}.")
    return [
        _of_objects(data_file, _numbered(f"{data_file.name} {key}".strip(), value), split_of(key) or data_file.split, shape)
        for key, value in lists.items()
    ]


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, (dict, list)) for row in value)


def _numbered(name: str, values: list[Any]) -> Callable[[], Iterator[tuple[str, Any]]]:
    return lambda: ((f"{name} row {number}", value) for number, value in enumerate(values) if isinstance(value, (dict, list)))


def _of_objects(data_file: DataFile, objects: Callable[[], Iterator[tuple[str, Any]]], split: str | None, expected: str) -> Table:
    where, first = data_file.name, [value for (_, value), _ in zip(objects(), range(SAMPLED), strict=False)]
    if not first:
        raise DataError(f"{data_file.path} holds no JSON objects. It should hold {expected}.")
    if isinstance(first[0], list):
        columns = [str(i) for i in range(max(len(row) for row in first))]
        return Table(where, columns, lambda: ((n, row) for n, row in objects() if isinstance(row, list)), split, headless=True)
    columns = list(dict.fromkeys(key for row in first if isinstance(row, dict) for key in row))
    return Table(where, columns, lambda: ((n, [row.get(c) for c in columns]) for n, row in objects() if isinstance(row, dict)), split)
