"""Reader of texts without labels, for the tokenizer and for pretraining: lines, paragraphs, or the text column of a table."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.nlp.reading.columns import KNOWN
from usecases.nlp.reading.records import texts_of
from usecases.reading import tables
from usecases.reading.arrow import parquet
from usecases.reading.encodings import TextFile
from usecases.reading.files import files_below
from usecases.reading.tables import DataFile

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

SUFFIXES = (".txt", ".text", ".csv", ".tsv", ".jsonl", ".json", ".parquet", "")
EXPECTED = "a text"  # in each row or line
LONG = 100_000  # characters; a longer text is split into pieces of this length


def read_unlabelled(settings: TextSettings, held_out: Collection[str], findings: Findings) -> Iterator[str]:
    """Read the texts of `settings.unlabelled`.

    Args:
        settings: the file or folder, and its encoding.
        held_out: texts of the validation and test splits, which are left out.
        findings: problems of the files are added to them.

    Yields:
        The texts.

    Raises:
        DataError: the path does not exist, or holds no files of texts.
    """
    path = Path(settings.unlabelled).expanduser()
    if not path.exists():
        raise DataError(
            f"--usecase.unlabelled {settings.unlabelled} does not exist. Give a file or folder of texts, or leave the setting out."
        )
    files = [path] if path.is_file() else files_below(path)
    files = [p for p in files if p.suffix.casefold() in SUFFIXES]
    if not files:
        raise DataError(f"--usecase.unlabelled {settings.unlabelled} holds no .txt, .csv, .tsv, .jsonl, .json or .parquet file.")
    for file in files:
        for text in map(str.strip, _texts(file, settings, findings)):
            if text in held_out:
                findings.note("unlabelled text that is in the validation or test split", f"{file.name}: {text[:60]}", "left out")
            elif text:
                yield from (text[start : start + LONG] for start in range(0, len(text), LONG))


def _texts(path: Path, settings: TextSettings, findings: Findings) -> Iterator[str]:
    found, suffix = DataFile(path, path.name), path.suffix.casefold()
    if suffix == ".parquet":
        return texts_of(parquet(found))
    file = TextFile(path, settings.encoding, findings)
    if suffix == ".json" and (file.head or [""])[0].lstrip().startswith("["):
        return (text for table in tables.json_document(found, file, EXPECTED) for text in texts_of(table))
    if suffix in (".json", ".jsonl"):
        return texts_of(tables.json_lines(found, file, findings, EXPECTED))
    if suffix in (".csv", ".tsv"):
        return texts_of(tables.separated(found, file, tables.headed_by(KNOWN), f"It should hold {EXPECTED} per row."))
    return _paragraphs(file) if _has_paragraphs(file) else file.lines()


def _has_paragraphs(file: TextFile) -> bool:
    """Whether empty lines separate blocks of several lines."""
    blocks = "\n".join(line.strip() for line in file.head).split("\n\n")
    return len(blocks) > 1 and sum("\n" in block.strip() for block in blocks) * 2 >= len(blocks)


def _paragraphs(file: TextFile) -> Iterator[str]:
    held: list[str] = []
    for line in file.lines():
        if line.strip():
            held.append(line)
        elif held:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)
