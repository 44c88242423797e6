"""Logs of behaviour in the layouts that the field uses, told apart by the files themselves.

Every layout becomes one lazy table of text: line, user, item, and where there are any time, rating, action. Nothing is
loaded here: logs larger than memory are streamed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from tasks.contract.errors import DataError
from usecases.recommendation.logs import Catalogue, Log

if TYPE_CHECKING:
    from usecases.recommendation import Recommendation

TEXT, TABLES = (".txt", ".csv", ".tsv", ".data", ".dat", ".inter"), (".parquet",)
NAMES = {
    "user": ("user", "user_id", "userid", "uid", "customer", "customer_id", "customerid", "visitor_id", "visitorid", "member_id", "reviewerid", "session_id", "sessionid", "session"),
    "item": ("item", "item_id", "itemid", "iid", "movie_id", "movieid", "product_id", "productid", "product", "asin", "parent_asin", "sku", "article_id", "track_id", "song_id", "book_id", "business_id"),
    "time": ("time", "timestamp", "ts", "date", "datetime", "event_time", "eventtime", "unixreviewtime", "created_at", "unix_timestamp", "t_dat"),
    "rating": ("rating", "ratings", "score", "stars", "overall", "review_rating"),
    "action": ("action", "event", "event_type", "behavior", "behaviour", "behavior_type", "type"),
}  # fmt: skip
SNIFFED_LINES = 200
SMALL_NUMBER = 4  # characters: 5, 4.5, 10.0


def find_log(settings: Recommendation) -> Log:
    """The log that `settings.data` names.

    Raises:
        DataError: nothing is there, or no known layout, with what was expected.
    """
    if settings.data == "sample":
        from usecases.recommendation.sample import simulated

        return simulated()
    if settings.data.startswith("hf://"):
        return _from_hub(settings)
    path = Path(settings.data).expanduser()
    if not path.exists():
        raise DataError(f"--usecase.data {settings.data}: there is no such file or folder.")
    file = path if path.is_file() else _log_in(path)
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty. It should hold an event per line: user, item, time.")
    log = _read(file, settings)
    log.catalogue = _catalogue(file.parent, log.layout)
    return log


def files_beside(settings: Recommendation) -> list[Path]:
    """The files of titles and categories that are read with a log that is given as a file; of a folder all files count anyway."""
    path = Path(settings.data).expanduser()
    return [other for other in sorted(path.parent.iterdir()) if _is_catalogue(other)] if path.is_file() else []


def _log_in(folder: Path) -> Path:
    """The log among a folder's files: by its well-known name, else the largest that could be one."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file()]
    for pattern in ("*.inter", "u.data", "ratings.dat", "ratings.csv", "ratings.parquet"):
        named = [p for p in files if p.match(pattern)]
        if named:
            return named[0]
    likely = [p for p in files if p.suffix.casefold() in (*TEXT, *TABLES) and "_to_" not in p.name and "readme" not in p.name.casefold()]
    if not likely:
        raise DataError(
            f"No log was found in {folder}: no .inter, u.data, ratings.dat, ratings.csv, nor another .txt, .csv, .tsv or .parquet file."
        )
    return max(likely, key=lambda p: p.stat().st_size)


def _read(file: Path, settings: Recommendation) -> Log:
    if file.suffix.casefold() in TABLES:
        return Log("a parquet table", _named(_scan_parquet(file), file, settings))
    if file.suffix == ".inter":
        return Log("RecBole's atomic files", _named(_scan(file, "\t"), file, settings))
    lines = _first_lines(file)
    if "::" in lines[0]:
        return Log("MovieLens .dat files", _double_colons(file))
    if not any(mark in lines[0] for mark in ",;|\t"):
        if all(len(line.split()) == 2 for line in lines):
            return Log("lines of user and item", _lines_of_pairs(file))
        if all(len(line.split()) == 1 for line in lines):
            raise DataError(_single_column(file, lines[0]))
        return Log("a sequence per line", _lines_of_sequences(file))
    separator = _separator(lines[0])
    if _has_header(lines[0], separator, settings):
        return Log("a table with a header", _named(_scan(file, separator), file, settings))
    columns = _headless_columns([line.split(separator) for line in lines])
    return Log(f"a table without a header: {', '.join(columns)}", _headless(file, separator, columns))


def _scan_parquet(file: Path) -> pl.LazyFrame:
    table = pl.scan_parquet(file)
    try:
        table.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{file} cannot be read as parquet: {str(error).splitlines()[0]}.") from None
    return table


# -- text to a table of text --------------------------------------------------------------------------------------
def _scan(file: Path, separator: str, header: bool = True, names: list[str] | None = None) -> pl.LazyFrame:
    return pl.scan_csv(
        file,
        separator=separator,
        has_header=header,
        new_columns=names,
        infer_schema=False,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        row_index_name="line",
        row_index_offset=2 if header else 1,
        quote_char='"' if separator in ",;" else None,
    )


def _named(table: pl.LazyFrame, file: Path, settings: Recommendation) -> pl.LazyFrame:
    """The columns of events, by the settings or by their names."""
    names = [name for name in table.collect_schema().names() if name != "line"]
    chosen = {role: _column(role, names, getattr(settings, f"{role}_column"), file) for role in NAMES}
    missing = [role for role in ("user", "item") if chosen[role] is None]
    if missing:
        raise DataError(
            f"{file} has no column of the {missing[0]} by a known name. Columns: {', '.join(names)}. Say which with --usecase.{missing[0]}_column."
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


def _single_column(file: Path, line: str) -> str:
    return f"{file} has a single column: {line!r:.80}. A line should hold user, item, and where there is one a time."


def _headless_columns(rows: list[list[str]]) -> list[str]:
    """What the columns should be by their number; a third one of small numbers holds ratings, else times."""
    if len(rows[0]) == 3:
        small = all(len(row) < 3 or len(row[2].strip()) <= SMALL_NUMBER for row in rows)
        return ["user", "item", "rating" if small else "time"]
    return ["user", "item", "rating", "time"][: len(rows[0])]


def _headless(file: Path, separator: str, columns: list[str]) -> pl.LazyFrame:
    table = _scan(file, separator, header=False)
    found = [name for name in table.collect_schema().names() if name != "line"]
    return table.select("line", *(pl.col(name).alias(role) for name, role in zip(found, columns, strict=False)))


def _double_colons(file: Path) -> pl.LazyFrame:
    """`1::1193::5::978300760`: read as if by single colons, every other column is empty."""
    table = _scan(file, ":", header=False)
    columns = [name for name in table.collect_schema().names() if name != "line"][::2]
    known = ["user", "item", "rating", "time"][: len(columns)]
    return table.select("line", *(pl.col(column).alias(name) for column, name in zip(columns, known, strict=False)))


def _lines_of_pairs(file: Path) -> pl.LazyFrame:
    return _scan(file, " ", header=False, names=["user", "item"]).select("line", "user", "item")


def _lines_of_sequences(file: Path) -> pl.LazyFrame:
    """`user item item item`, in their order."""
    whole = pl.scan_csv(file, separator="\x01", has_header=False, new_columns=["text"], infer_schema=False, quote_char=None)
    words = whole.with_row_index("line", 1).with_columns(pl.col("text").str.strip_chars().str.split(" "))
    users = words.with_columns(user=pl.col("text").list.first(), item=pl.col("text").list.slice(1))
    return users.select("line", "user", "item").explode("item")


def _first_lines(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        lines = [line.rstrip("\r\n") for line, _ in zip(opened, range(SNIFFED_LINES), strict=False)]
    return [line for line in lines if line.strip()] or [""]


def _separator(line: str) -> str:
    return max(",\t;|", key=line.count)


def _has_header(line: str, separator: str, settings: Recommendation) -> bool:
    known = {name for names in NAMES.values() for name in names}
    asked = {getattr(settings, f"{role}_column") for role in NAMES} - {""}
    cells = {cell.strip().strip('"').partition(":")[0] for cell in line.split(separator)}
    return bool({cell.casefold() for cell in cells} & known or cells & asked)


def _from_hub(settings: Recommendation) -> Log:
    import datasets

    name = settings.data.removeprefix("hf://")
    try:
        loaded = datasets.load_dataset(name, split="train")
    except Exception as error:  # what it raises depends on the host
        raise DataError(f"{settings.data} could not be loaded: {str(error).splitlines()[0]}") from error
    table = pl.from_arrow(loaded.data.table)  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(table, pl.DataFrame)
    return Log(f"the hub's {name}", _named(table.lazy(), Path(name), settings))


# -- titles and categories ----------------------------------------------------------------------------------------
def _catalogue(folder: Path, layout: str) -> Catalogue:
    """Titles and categories of items from the files beside the log."""
    found = Catalogue()
    for path in filter(_is_catalogue, sorted(folder.iterdir())):
        if path.suffix == ".item" and path.name != "u.item":
            _add(found, _rows(path, "\t", "utf-8"))
        elif path.name == "u.item":
            _add_flags(found, path, folder / "u.genre")
        elif path.name == "movies.dat":
            _add(found, ({"id": i, "title": t, "category": g} for i, t, g, *_ in _split(path, "::", 3)))
        elif path.name in ("movies.csv", "items.csv", "products.csv"):
            _add(found, _rows(path, ",", "utf-8"))
        elif path.name.endswith("item2attributes.json"):
            for item, attributes in json.loads(path.read_text(encoding="utf-8")).items():
                found.categories[item] = [f"attribute {a}" for a in attributes]
    renamed = list(folder.glob("*_to_original_items.txt"))
    return _renamed(found, renamed[0]) if renamed else found


def _is_catalogue(path: Path) -> bool:
    known = path.name in ("movies.dat", "movies.csv", "items.csv", "products.csv", "u.genre") or path.suffix == ".item"
    return path.is_file() and (known or path.name.endswith(("item2attributes.json", "_to_original_items.txt")))


def _add(found: Catalogue, rows: Iterator[dict[str, str]]) -> None:
    for row in rows:
        bare = {(name or "").partition(":")[0].casefold(): value or "" for name, value in row.items() if isinstance(value, str)}
        item = next((bare[name] for name in ("id", *NAMES["item"]) if name in bare), "")
        title = next((value for name, value in bare.items() if "title" in name or name == "name"), "")
        kinds = next((value for name, value in bare.items() if name in ("category", "categories", "genres", "genre", "class")), "")
        if item and title:
            found.titles[item] = title
        if item and kinds:
            found.categories[item] = [k for k in (kinds.split("|") if "|" in kinds else kinds.split(" ")) if k]


def _rows(path: Path, separator: str, encoding: str) -> Iterator[dict[str, str]]:
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        yield from csv.DictReader(file, delimiter=separator, quoting=csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE)


def _split(path: Path, separator: str, least: int) -> Iterator[list[str]]:
    for line in path.read_text(encoding="latin-1").splitlines():
        parts = line.split(separator)
        if len(parts) >= least:
            yield parts


def _add_flags(found: Catalogue, items: Path, genres: Path) -> None:
    """MovieLens 100k: a flag per genre behind id, title, dates and address."""
    names = [parts[0] for parts in _split(genres, "|", 2)] if genres.exists() else []
    for parts in _split(items, "|", 6):
        found.titles[parts[0]] = parts[1]
        found.categories[parts[0]] = [name for name, flag in zip(names, parts[5:], strict=False) if flag == "1"]


def _renamed(found: Catalogue, path: Path) -> Catalogue:
    """The ids of the log stand for others, listed in a file of `id original` lines."""
    original = dict(line.split()[:2] for line in path.read_text().splitlines() if line.strip())
    return Catalogue(
        {new: found.titles[old] for new, old in original.items() if old in found.titles},
        {new: found.categories[old] for new, old in original.items() if old in found.categories},
    )
