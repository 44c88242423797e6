"""The layouts of files: a row for each, with how it is recognised by its first lines and how it is read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.nlp.reading.columns import KNOWN, NoLabels
from usecases.nlp.reading.conll import is_conll, read_conll
from usecases.nlp.reading.lines import (
    class_of_files,
    is_fasttext,
    is_trec,
    labels_beside,
    read_class_files,
    read_fasttext,
    read_parallel,
    read_trec,
)
from usecases.nlp.reading.records import read_tables
from usecases.nlp.sources import Source
from usecases.reading import arrow, tables
from usecases.reading.archives import is_archive
from usecases.reading.encodings import TextFile
from usecases.reading.tables import DataFile

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

OTHER = (".md", ".rst", ".py", ".sh", ".pdf", ".yaml", ".yml", ".ipynb", ".docx", ".xlsx", ".png", ".jpg", ".feat", ".bin", ".pt", ".html")
UNIFORM = 0.95  # share of lines with the same number of tabs that make a table
EXPECTED = "It should hold a text and a label per line."


@dataclass(frozen=True)
class Sniffed:
    """A file whose layout is to be found; it is opened only where its name does not tell."""

    path: Path
    settings: TextSettings

    @property
    def suffix(self) -> str:
        return self.path.suffix.casefold()

    @cached_property
    def lines(self) -> list[str]:
        return TextFile(self.path, self.settings.encoding, Findings()).head

    @cached_property
    def json(self) -> str:
        """What JSON it holds: "document", "lines", or ""."""
        first = next((line.strip() for line in self.lines if line.strip()), "")
        return _json_of(first, self.path) if first.startswith(("{", "[")) else ""


Files = Sequence[tuple[DataFile, TextFile]]
Read = Callable[[Sequence[DataFile], "TextSettings", Findings], Source]


@dataclass(frozen=True)
class Kind:
    """How a layout is recognised, and how its files, which belong to one data set, are read. `labelled`: it is more than plain text."""

    matches: Callable[[Sniffed], bool]
    read: Read
    labelled: bool = True


def kind_of(path: Path, settings: TextSettings) -> Kind:
    """The first layout of `KINDS` that a file is in."""
    sniffed = Sniffed(path, settings)
    return next(kind for kind in KINDS if kind.matches(sniffed))


# -- recognising ------------------------------------------------------------------------------------------------------
def _json_of(first: str, path: Path) -> str:
    """One document, or a value per line. A document is a list, or lists under keys, in one line or in many."""
    try:
        value = json.loads(first)
    except ValueError:
        return "document" if first[1:].lstrip()[:1] in ("", "{", "[", '"') else ""
    inner = value if isinstance(value, list) else list(value.values())
    held = any(isinstance(one, (list, dict)) for one in inner) and path.suffix.casefold() == ".json"
    return "document" if held and TextFile(path, "", Findings()).is_one_line else "lines"


def _is_table(file: Sniffed) -> bool:
    """By the suffix, by asked-for columns, by a header, or because almost every line has as many tabs."""
    if file.suffix in (".csv", ".tsv") or file.settings.text_column or file.settings.label_column:
        return True
    there = [line for line in file.lines if line.strip()]
    separator = tables.separator_of(there)
    cells = {cell.strip().strip('"').casefold() for cell in there[0].split(separator)} if there else set()
    if len(cells) > 1 and len(cells & set(KNOWN)) > 1:
        return True
    width, count = Counter(line.count("\t") for line in there).most_common(1)[0] if there else (0, 0)
    return width > 0 and count >= UNIFORM * len(there)


# -- reading ----------------------------------------------------------------------------------------------------------
def _opened(read: Callable[[Files, TextSettings, Findings], Source]) -> Read:
    """A reader of files from one of their texts."""
    return lambda found, settings, findings: read(
        [(one, TextFile(one.path, settings.encoding, findings)) for one in found], settings, findings
    )


def _read_parquet(found: Sequence[DataFile], settings: TextSettings, findings: Findings) -> Source:
    return read_tables([arrow.parquet(one) for one in found], settings, findings)


def _read_json(files: Files, settings: TextSettings, findings: Findings) -> Source:
    return read_tables([table for found, file in files for table in tables.json_document(found, file)], settings, findings)


def _read_json_lines(files: Files, settings: TextSettings, findings: Findings) -> Source:
    return read_tables([tables.json_lines(found, file, findings) for found, file in files], settings, findings)


def _read_separated(files: Files, settings: TextSettings, findings: Findings) -> Source:
    asked = [name.casefold() for column in (settings.text_column, settings.label_column) for name in column.split("+") if name]
    is_header = tables.headed_by([*KNOWN, *(name for name in asked if not name.isdecimal())])
    return read_tables([tables.separated(found, file, is_header, EXPECTED) for found, file in files], settings, findings)


def _read_lines(files: Files, settings: TextSettings, findings: Findings) -> Source:
    """A file per class; otherwise there are no labels."""
    found = [one for one, _ in files]
    classes = class_of_files(found)
    if not classes:
        raise NoLabels(f"No labels were found in {found[0].path}: it holds a text a line. Give a table with a text and a label per row.")
    return read_class_files(files, classes, findings)


def _refuse(found: Sequence[DataFile], settings: TextSettings, findings: Findings) -> Source:
    raise DataError(f"{found[0].path} is of no known kind. Give a table, JSON lines, CoNLL columns, or a folder per class.")


KINDS = (  # the first that matches counts
    Kind(lambda file: file.suffix == ".parquet", _read_parquet),
    Kind(lambda file: file.suffix in OTHER or is_archive(file.path), _refuse, labelled=False),
    Kind(lambda file: labels_beside(file.path) is not None, _opened(read_parallel)),
    Kind(lambda file: file.json == "document", _opened(_read_json)),
    Kind(lambda file: file.json == "lines", _opened(_read_json_lines)),
    Kind(lambda file: is_fasttext(file.lines), _opened(read_fasttext)),
    Kind(lambda file: is_trec(file.lines), _opened(read_trec)),
    Kind(lambda file: is_conll(file.lines, file.settings), _opened(read_conll)),
    Kind(_is_table, _opened(_read_separated)),
    Kind(lambda file: True, _opened(_read_lines), labelled=False),
)
