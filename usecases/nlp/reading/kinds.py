"""The layout of one file, told by its first lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract.findings import Findings
from usecases.nlp.reading import tables
from usecases.nlp.reading.columns import KNOWN
from usecases.nlp.reading.conll import is_conll
from usecases.nlp.reading.encodings import TextFile
from usecases.nlp.reading.lines import is_fasttext, is_trec, labels_beside

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
OTHER = (".md", ".rst", ".py", ".sh", ".pdf", ".yaml", ".yml", ".ipynb", ".docx", ".xlsx", ".png", ".jpg", ".feat", ".bin", ".pt", ".html")
UNIFORM = 0.95  # share of lines with the same number of tabs that make a table


def kind_of(path: Path, settings: TextSettings) -> str:
    """One of parquet, json, jsonl, fasttext, trec, conll, table, parallel (texts beside labels), lines and unknown."""
    if path.suffix.casefold() == ".parquet":
        return "parquet"
    if path.suffix.casefold() in (*OTHER, *ARCHIVES):
        return "unknown"
    if labels_beside(path):
        return "parallel"
    lines = TextFile(path, settings.encoding, Findings()).head
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith(("{", "[")) and (kind := _json_kind(first, path)):
        return kind
    if is_fasttext(lines):
        return "fasttext"
    if is_trec(lines):
        return "trec"
    if is_conll(lines, settings):
        return "conll"
    return "table" if _is_table(lines, path, settings) else "lines"


def _json_kind(first: str, path: Path) -> str:
    """One document, or a value per line. A document is a list, or lists under keys, in one line or in many."""
    try:
        value = json.loads(first)
    except ValueError:
        return "json" if first[1:].lstrip()[:1] in ("", "{", "[", '"') else ""
    inner = value if isinstance(value, list) else list(value.values())
    held = any(isinstance(one, (list, dict)) for one in inner) and path.suffix.casefold() == ".json"
    return "json" if held and TextFile(path, "", Findings()).is_one_line else "jsonl"


def _is_table(lines: Sequence[str], path: Path, settings: TextSettings) -> bool:
    """By the suffix, by asked-for columns, by a header, or because almost every line has as many tabs."""
    if path.suffix.casefold() in (".csv", ".tsv") or settings.text_column or settings.label_column:
        return True
    there = [line for line in lines if line.strip()]
    separator = tables.separator_of(there)
    cells = {cell.strip().strip('"').casefold() for cell in there[0].split(separator)} if there else set()
    if len(cells) > 1 and len(cells & set(KNOWN)) > 1:
        return True
    width, count = Counter(line.count("\t") for line in there).most_common(1)[0] if there else (0, 0)
    return width > 0 and count >= UNIFORM * len(there)
