"""The layouts of files: how each is recognised by its first lines, and how it is read."""

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
    label_file_of,
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
UNIFORM = 0.95  # share of lines with the same number of tabs from which a file is a table
EXPECTED = {
    "auto": "a text with its label, or with its entities",
    "classification": "a text with its label",
    "entities": "a text with its entities",
}  # in each row, by --usecase.task


@dataclass(frozen=True)
class Sniffed:
    """A file whose layout is to be detected; it is opened only if its name does not decide."""

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
        """The kind of JSON in the file: "document", "lines", or "" if it is not JSON."""
        first = next((line.strip() for line in self.lines if line.strip()), "")
        return _json_of(first, self.path) if first.startswith(("{", "[")) else ""


Files = Sequence[tuple[DataFile, TextFile]]
Read = Callable[[Sequence[DataFile], "TextSettings", Findings], Source]


@dataclass(frozen=True)
class Kind:
    """A layout: how it is recognised, and how the files of one data set are read. `labelled`: it is not plain text."""

    matches: Callable[[Sniffed], bool]
    read: Read
    labelled: bool = True


def kind_of(path: Path, settings: TextSettings) -> Kind:
    """The layout of a file: the first of `KINDS` that matches."""
    sniffed = Sniffed(path, settings)
    return next(kind for kind in KINDS if kind.matches(sniffed))


# -- recognising ------------------------------------------------------------------------------------------------------
def _json_of(first: str, path: Path) -> str:
    """Whether JSON is one document or a value per line. A document is a list, or lists under keys, in one line or in many."""
    try:
        value = json.loads(first)
    except ValueError:
        return "document" if first[1:].lstrip()[:1] in ("", "{", "[", '"') else ""
    inner = value if isinstance(value, list) else list(value.values())
    held = any(isinstance(one, (list, dict)) for one in inner) and path.suffix.casefold() == ".json"
    return "document" if held and TextFile(path, "", Findings()).is_one_line else "lines"


def _is_table(file: Sniffed) -> bool:
    """Whether a file is a table: by its suffix, by columns in the settings, by a header, or by equal numbers of tabs in most lines."""
    if file.suffix in (".csv", ".tsv") or file.settings.text_column or file.settings.label_column:
        return True
    filled = [line for line in file.lines if line.strip()]
    separator = tables.separator_of(filled)
    cells = {cell.strip().strip('"').casefold() for cell in filled[0].split(separator)} if filled else set()
    if len(cells) > 1 and len(cells & set(KNOWN)) > 1:
        return True
    width, count = Counter(line.count("\t") for line in filled).most_common(1)[0] if filled else (0, 0)
    return width > 0 and count >= UNIFORM * len(filled)


# -- reading ----------------------------------------------------------------------------------------------------------
def _opened(read: Callable[[Files, TextSettings, Findings], Source]) -> Read:
    """Make a reader of files from a reader of their texts."""
    return lambda found, settings, findings: read(
        [(one, TextFile(one.path, settings.encoding, findings)) for one in found], settings, findings
    )


def _read_parquet(found: Sequence[DataFile], settings: TextSettings, findings: Findings) -> Source:
    return read_tables([arrow.parquet(one) for one in found], settings, findings)


def _read_json(files: Files, settings: TextSettings, findings: Findings) -> Source:
    expected = EXPECTED[settings.task]
    return read_tables([table for found, file in files for table in tables.json_document(found, file, expected)], settings, findings)


def _read_json_lines(files: Files, settings: TextSettings, findings: Findings) -> Source:
    expected = EXPECTED[settings.task]
    return read_tables([tables.json_lines(found, file, findings, expected) for found, file in files], settings, findings)


def _read_separated(files: Files, settings: TextSettings, findings: Findings) -> Source:
    asked = [name.casefold() for column in (settings.text_column, settings.label_column) for name in column.split("+") if name]
    is_header = tables.headed_by([*KNOWN, *(name for name in asked if not name.isdecimal())])
    expected = f"It should hold {EXPECTED[settings.task]} per row."
    return read_tables([tables.separated(found, file, is_header, expected) for found, file in files], settings, findings)


def _read_lines(files: Files, settings: TextSettings, findings: Findings) -> Source:
    """Files with a text per line: a file per class. Other files have no labels.

    Raises:
        NoLabels: the names of the files do not name classes.
    """
    found = [one for one, _ in files]
    classes = class_of_files(found)
    if not classes:
        raise NoLabels(
            f"No labels were found in {found[0].path}, which holds a text per line. Give a table with {EXPECTED[settings.task]} per row."
        )
    return read_class_files(files, classes, findings)


def _refuse(found: Sequence[DataFile], settings: TextSettings, findings: Findings) -> Source:
    raise DataError(f"{found[0].path} has no known layout. Give a table, JSON lines, CoNLL columns, or a folder per class.")


KINDS = (  # the first that matches is used
    Kind(lambda file: file.suffix == ".parquet", _read_parquet),
    Kind(lambda file: file.suffix in OTHER or is_archive(file.path), _refuse, labelled=False),
    Kind(lambda file: label_file_of(file.path) is not None, _opened(read_parallel)),
    Kind(lambda file: file.json == "document", _opened(_read_json)),
    Kind(lambda file: file.json == "lines", _opened(_read_json_lines)),
    Kind(lambda file: is_fasttext(file.lines), _opened(read_fasttext)),
    Kind(lambda file: is_trec(file.lines), _opened(read_trec)),
    Kind(lambda file: is_conll(file.lines, file.settings), _opened(read_conll)),
    Kind(_is_table, _opened(_read_separated)),
    Kind(lambda file: True, _opened(_read_lines), labelled=False),
)
