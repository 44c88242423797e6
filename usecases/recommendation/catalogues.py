"""Titles and categories of items, from files next to the log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.contract.findings import Findings
from usecases.reading.encodings import TextFile
from usecases.reading.files import files_in
from usecases.reading.tables import Dialect, named_rows
from usecases.recommendation.logs import NAMES, Catalogue

RECBOLE = Dialect("\t", quoted=False)  # of its atomic files


def find_catalogue(folder: Path, encoding: str, findings: Findings) -> Catalogue:
    """Read titles and categories of items from the files next to a log.

    Args:
        folder: the folder of the log.
        encoding: encoding of the files; empty: detected.
        findings: problems of the files are added to them.

    Returns:
        Titles and categories by item; empty if there are no such files.
    """
    found = Catalogue()

    def lines(path: Path) -> Iterator[str]:
        return TextFile(path, encoding, findings).lines()

    for path in filter(is_catalogue, files_in(folder)):
        if path.suffix == ".item" and path.name != "u.item":
            _add(found, named_rows(path, encoding, findings, RECBOLE))
        elif path.name == "u.item":
            genres = folder / "u.genre"
            _add_flags(found, lines(path), lines(genres) if genres.is_file() else ())
        elif path.name == "movies.dat":
            _add(found, ({"id": i, "title": t, "category": g} for i, t, g, *_ in _split(lines(path), "::", 3)))
        elif path.name in ("movies.csv", "items.csv", "products.csv"):
            _add(found, named_rows(path, encoding, findings))
        elif path.name.endswith("item2attributes.json"):
            for item, attributes in json.loads(path.read_text(encoding="utf-8")).items():
                found.categories[item] = [f"attribute {a}" for a in attributes]
    renamed = list(folder.glob("*_to_original_items.txt"))
    return _renamed(found, renamed[0]) if renamed else found


def is_catalogue(path: Path) -> bool:
    """Whether a file holds titles or categories, by its name."""
    return (
        path.suffix == ".item"
        or path.name in ("movies.dat", "movies.csv", "items.csv", "products.csv", "u.genre")
        or path.name.endswith(("item2attributes.json", "_to_original_items.txt"))
    )


def _add(found: Catalogue, rows: Iterable[dict[str, str]]) -> None:
    for row in rows:
        bare = {(name or "").partition(":")[0].casefold(): value or "" for name, value in row.items() if isinstance(value, str)}
        item = next((bare[name] for name in ("id", *NAMES["item"]) if name in bare), "")
        title = next((value for name, value in bare.items() if "title" in name or name == "name"), "")
        kinds = next((value for name, value in bare.items() if name in ("category", "categories", "genres", "genre", "class")), "")
        if item and title:
            found.titles[item] = title
        if item and kinds:
            found.categories[item] = [k for k in (kinds.split("|") if "|" in kinds else kinds.split(" ")) if k]


def _split(lines: Iterable[str], separator: str, minimum: int) -> Iterator[list[str]]:
    return (parts for line in lines if len(parts := line.split(separator)) >= minimum)


def _add_flags(found: Catalogue, items: Iterable[str], genres: Iterable[str]) -> None:
    """Add the items of MovieLens 100k, which have a flag per genre after id, title, dates and address."""
    names = [parts[0] for parts in _split(genres, "|", 2)]
    for parts in _split(items, "|", 6):
        found.titles[parts[0]] = parts[1]
        found.categories[parts[0]] = [name for name, flag in zip(names, parts[5:], strict=False) if flag == "1"]


def _renamed(found: Catalogue, path: Path) -> Catalogue:
    """The catalogue by the ids of the log, which a file of lines `id original` maps to those of the catalogue."""
    original = dict(line.split()[:2] for line in path.read_text().splitlines() if line.strip())
    return Catalogue(
        {new: found.titles[old] for new, old in original.items() if old in found.titles},
        {new: found.categories[old] for new, old in original.items() if old in found.categories},
    )
