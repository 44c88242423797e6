"""Readers of logs of events in the field's layouts, which are detected from the files.

Every layout becomes a lazy table of text with the columns line, user and item, and time, rating and action if the log has them. Nothing
is loaded here, so that logs larger than memory can be streamed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.reading.archives import refuse_archives
from usecases.reading.arrow import hub_splits, open_parquet
from usecases.reading.digests import HUB, is_on_hub
from usecases.reading.encodings import TextFile
from usecases.reading.files import files_in
from usecases.reading.tables import Dialect, cells_of, dialect_of
from usecases.recommendation.catalogues import RECBOLE, find_catalogue, is_catalogue
from usecases.recommendation.logs import NAMES, Log

if TYPE_CHECKING:
    from usecases.recommendation import Recommendation

JSON = (".jsonl", ".json", ".ndjson")
EVENT = ("user", "item")  # roles of the columns that every log has
SNIFFED_LINES = 200
SMALL_NUMBER = 4  # largest number of characters of a rating, such as 5, 4.5 or 10.0


def find_log(settings: Recommendation, findings: Findings) -> Log:
    """Open the log that `settings.data` names. Problems with its encoding are added to `findings`.

    Raises:
        DataError: the data do not exist, or have no known layout.
    """
    if settings.data == "sample":
        from usecases.recommendation.sample import simulated

        return simulated()
    if is_on_hub(settings.data):
        return _from_hub(settings)
    path = Path(settings.data).expanduser()
    if not path.exists():
        raise DataError(f"--usecase.data {settings.data} does not exist. Give a folder or file, hf://owner/name, or 'sample'.")
    file = path if path.is_file() else _log_in(path, settings)
    refuse_archives([file])
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty. It should hold an event per line with user, item and, if known, time.")
    sniffed = LogFile(file, settings, findings)
    with readable(f"{file} cannot be read"):
        log = next(log for layout in LAYOUTS if (log := layout.read(sniffed)) is not None)
    log.catalogue = find_catalogue(file.parent, settings.encoding, findings)
    return log


@contextmanager
def readable(message: str) -> Iterator[None]:
    """Raise `DataError` with the message and the reason in place of an error of polars."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"{message}: {reason}. Repair the file, or give another.") from None


def catalogue_files_of(settings: Recommendation) -> list[Path]:
    """The files of titles and categories that are read with a single log file. For a folder the digest covers all files anyway."""
    path = Path(settings.data).expanduser()
    return [other for other in files_in(path.parent) if is_catalogue(other)] if path.is_file() else []


def _log_in(folder: Path, settings: Recommendation) -> Path:
    """The log in a folder: a file with a well-known name, else the largest of the files that look most like a log."""
    files = files_in(folder)
    for pattern in (pattern for layout in LAYOUTS for pattern in layout.names):
        named = [p for p in files if p.match(pattern)]
        if named:
            return named[0]
    suffixes = tuple(dict.fromkeys(suffix for layout in LAYOUTS for suffix in layout.suffixes))
    likely = [p for p in files if p.suffix.casefold() in suffixes and "_to_" not in p.name and "readme" not in p.name.casefold()]
    if not likely:
        names = ", ".join(pattern for layout in LAYOUTS for pattern in layout.names)
        raise DataError(f"No log was found in {folder}. It should hold {names}, or another file with the suffix {', '.join(suffixes)}.")
    return max(likely, key=lambda p: (_likeness(LogFile(p, settings, Findings())), p.stat().st_size))


def _likeness(file: LogFile) -> int:
    """2 for a table with columns of user and item, 0 for one without them, such as metadata of items; 1 if its columns have no names."""
    try:
        names = file.names
        return 1 if names is None else 2 * all(_column(role, names, getattr(file.settings, f"{role}_column"), file.path) for role in EVENT)
    except DataError:
        return 0


# -- layouts ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class LogFile:
    """A file whose layout is to be detected; it is opened as text only if its name does not decide."""

    path: Path
    settings: Recommendation
    findings: Findings

    @cached_property
    def text(self) -> TextFile:
        return TextFile(self.path, self.settings.encoding, self.findings)

    @cached_property
    def lines(self) -> list[str]:
        """The first lines that are not blank."""
        return [line for line in self.text.head[:SNIFFED_LINES] if line.strip()] or [""]

    @cached_property
    def dialect(self) -> Dialect:
        return dialect_of(self.lines)

    @property
    def separated(self) -> bool:
        return any(mark in self.lines[0] for mark in ",;|\t")

    @cached_property
    def is_json(self) -> bool:
        """Whether the file holds JSON, in lines or as a document."""
        first = self.lines[0].strip()
        known = self.path.suffix.casefold() in JSON or first in ("{", "[", "[{")
        return known or (first.startswith(("{", "[")) and isinstance(_json(first), (dict, list)))

    @cached_property
    def objects(self) -> list[dict[str, object]]:
        """The JSON objects of the first lines; none if the file holds other JSON."""
        values = [_json(line) for line in self.lines]
        return [value for value in values if isinstance(value, dict)] if isinstance(values[0], dict) else []

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(key for value in self.objects for key in value))

    @property
    def names(self) -> list[str] | None:
        """The names of the columns; None if they have none."""
        if self.path.suffix.casefold() == ".parquet":
            return open_parquet(self.path).schema_arrow.names
        if self.is_json:
            return self.keys
        return cells_of(self.lines[0], self.dialect) if self.headed else None

    @cached_property
    def headed(self) -> bool:
        """Whether the first row has a known name, or one of the settings."""
        known = {name for names in NAMES.values() for name in names}
        asked = {getattr(self.settings, f"{role}_column") for role in NAMES} - {""}
        cells = {cell.strip().strip('"').partition(":")[0] for cell in cells_of(self.lines[0], self.dialect)}
        return bool({cell.casefold() for cell in cells} & known or cells & asked)

    def scan(self, dialect: Dialect, header: bool = True, names: list[str] | None = None) -> pl.LazyFrame:
        """Read the rows lazily as text, with the number of each in the column `line`.

        Args:
            dialect: how the table is written.
            header: the first row holds the names of the columns.
            names: names of the columns; None: those of the header, or made by polars.

        Returns:
            A lazy table of text.
        """
        return pl.scan_csv(
            self.text.as_utf8(),
            separator=dialect.separator,
            has_header=header,
            new_columns=names,
            infer_schema=False,
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
            row_index_name="line",
            row_index_offset=2 if header else 1,
            quote_char='"' if dialect.quoted else None,
        )

    def log(self, layout: str, events: pl.LazyFrame) -> Log:
        return Log(layout, events, text=self.text)


def _parquet(file: LogFile) -> Log | None:
    if file.path.suffix.casefold() != ".parquet":
        return None
    open_parquet(file.path)  # for its error: that of polars names neither the file nor the reason
    return Log("a parquet table", _named(pl.scan_parquet(file.path), file.path, file.settings))


def _json_lines(file: LogFile) -> Log | None:
    """Lines such as `{"reviewerID": "A2", "asin": "B00", "unixReviewTime": 1252800000}`, as Amazon's reviews are published.

    Raises:
        DataError: the file holds other JSON.
    """
    if not file.is_json:
        return None
    if not file.objects:
        raise DataError(
            f"{file.path} does not hold JSON lines of events: {file.lines[0]!r:.80}. Write an object with user and item per line."
        )
    text = file.scan(Dialect("\x01", quoted=False), header=False, names=["text"])
    keys = {key: json.dumps(key, ensure_ascii=False) for key in file.keys if key != "line"}
    events = text.select("line", *(pl.col("text").str.json_path_match(f"$[{path}]").alias(key) for key, path in keys.items()))
    return file.log("JSON lines", _named(events, file.path, file.settings))


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _recbole(file: LogFile) -> Log | None:
    if file.path.suffix != ".inter":
        return None
    return file.log("RecBole's atomic files", _named(file.scan(RECBOLE), file.path, file.settings))


def _double_colons(file: LogFile) -> Log | None:
    """Lines such as `1::1193::5::978300760`. With single colons as separators every other column is empty."""
    if "::" not in file.lines[0]:
        return None
    table = file.scan(Dialect(":", quoted=False), header=False)
    columns = [name for name in table.collect_schema().names() if name != "line"][::2]
    known = ["user", "item", "rating", "time"][: len(columns)]
    events = table.select("line", *(pl.col(column).alias(name) for column, name in zip(columns, known, strict=False)))
    return file.log("MovieLens .dat files", events)


def _pairs(file: LogFile) -> Log | None:
    if file.separated or not all(len(line.split()) == 2 for line in file.lines):
        return None
    events = file.scan(Dialect(" ", quoted=False), header=False, names=["user", "item"]).select("line", "user", "item")
    return file.log("lines of user and item", events)


def _sequences(file: LogFile) -> Log | None:
    """Lines of `user item item item` in order.

    Raises:
        DataError: the file has a single column.
    """
    if file.separated:
        return None
    if all(len(line.split()) == 1 for line in file.lines):
        raise DataError(f"{file.path} has a single column: {file.lines[0]!r:.80}. A line should hold user, item and, if known, time.")
    words = file.scan(Dialect("\x01", quoted=False), header=False, names=["text"]).with_columns(
        pl.col("text").str.strip_chars().str.split(" ")
    )
    users = words.with_columns(user=pl.col("text").list.first(), item=pl.col("text").list.slice(1))
    return file.log("a sequence per line", users.select("line", "user", "item").explode("item"))


def _headed(file: LogFile) -> Log | None:
    return file.log("a table with a header", _named(file.scan(file.dialect), file.path, file.settings)) if file.headed else None


def _headless(file: LogFile) -> Log | None:
    rows = [cells_of(line, file.dialect) for line in file.lines]
    if len(rows[0]) < len(EVENT):
        raise DataError(f"{file.path} has a single column: {file.lines[0]!r:.80}. A line should hold user, item and, if known, time.")
    columns = _headless_columns(rows)
    table = file.scan(file.dialect, header=False)
    found = [name for name in table.collect_schema().names() if name != "line"]
    events = table.select("line", *(pl.col(name).alias(role) for name, role in zip(found, columns, strict=False)))
    return file.log(f"a table without a header: {', '.join(columns)}", events)


@dataclass(frozen=True)
class Layout:
    """A layout of logs.

    Args:
        read: opens a log; returns None for a file in another layout.
        suffixes: suffixes of files in a folder that may have the layout.
        names: patterns of well-known names, which decide on the log in a folder.
    """

    read: Callable[[LogFile], Log | None]
    suffixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


LAYOUTS = (
    Layout(_recbole, (".inter",), ("*.inter",)),
    Layout(_parquet, (".parquet",), ("ratings.parquet",)),
    Layout(_json_lines, JSON),
    Layout(_double_colons, (".dat",), ("ratings.dat",)),
    Layout(_pairs, (".txt",)),
    Layout(_sequences, (".txt",)),
    Layout(_headed, (".csv", ".tsv", ".txt", ".dat"), ("ratings.csv",)),
    Layout(_headless, (".csv", ".tsv", ".txt", ".data", ".dat"), ("u.data",)),
)
"""The first layout that reads a file is used."""


# -- columns ------------------------------------------------------------------------------------------------------
def _named(table: pl.LazyFrame, file: Path, settings: Recommendation) -> pl.LazyFrame:
    """The table with the columns of events, chosen by the settings or by their names."""
    names = [name for name in table.collect_schema().names() if name != "line"]
    chosen = {role: _column(role, names, getattr(settings, f"{role}_column"), file) for role in NAMES}
    missing = [role for role in EVENT if chosen[role] is None]
    if missing:
        raise DataError(
            f"{file} has no column with a known name of the {missing[0]}. Columns: {', '.join(names)}. Name it with --usecase.{missing[0]}_column."
        )
    table = table if "line" in table.collect_schema().names() else table.with_row_index("line", 1)
    return table.select("line", *(pl.col(name).cast(pl.String).alias(role) for role, name in chosen.items() if name is not None))


def _column(role: str, names: list[str], asked: str, file: Path) -> str | None:
    bare = {name.partition(":")[0].strip().casefold(): name for name in reversed(names)}
    if asked:
        if asked.casefold() not in bare and asked not in names:
            raise DataError(f"--usecase.{role}_column {asked}: {file.name} has no such column. Columns: {', '.join(names)}.")
        return asked if asked in names else bare[asked.casefold()]
    return next((bare[name] for name in NAMES[role] if name in bare), None)


def _headless_columns(rows: list[list[str]]) -> list[str]:
    """The names of the columns of a table without a header; of three columns the third is a rating if its numbers are short, else a time."""
    if len(rows[0]) == 3:
        small = all(len(row) < 3 or len(row[2].strip()) <= SMALL_NUMBER for row in rows)
        return ["user", "item", "rating" if small else "time"]
    return ["user", "item", "rating", "time"][: len(rows[0])]


def _from_hub(settings: Recommendation) -> Log:
    name = settings.data.removeprefix(HUB)
    splits = hub_splits(name)
    loaded = splits.get("train") or next(iter(splits.values()))
    table = pl.from_arrow(loaded.data.table)
    assert isinstance(table, pl.DataFrame)
    return Log(f"the hub's {name}", _named(table.lazy(), Path(name), settings))
