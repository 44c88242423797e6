"""Files of a text a line: fastText's and TREC's, texts beside labels, and a file per class."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.nlp.reading.columns import as_list
from usecases.nlp.sources import Item, Source
from usecases.reading.encodings import TextFile
from usecases.reading.splits import SPLIT_NAMES
from usecases.reading.tables import DataFile

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

PREFIX = "__label__"
TREC = re.compile(r"^([A-Z]{2,}:\w+)\s+(\S.*)$")
TEXTS = re.compile(r"^(.*?)(texts?|sentences?|tweets?|seq\.in)$", re.IGNORECASE)
LABELS = ("labels", "label")
MIN_SHARE = 0.95

Files = Sequence[tuple[DataFile, TextFile]]


# -- fastText and TREC ------------------------------------------------------------------------------------------------
def is_fasttext(lines: Sequence[str]) -> bool:
    return _most(lines, lambda line: any(word.startswith(PREFIX) for word in line.split()))


def is_trec(lines: Sequence[str]) -> bool:
    return _most(lines, lambda line: TREC.match(line) is not None)


def _most(lines: Sequence[str], condition: Callable[[str], bool]) -> bool:
    there = [line for line in lines if line.strip()]
    return bool(there) and sum(map(condition, there)) >= MIN_SHARE * len(there)


def read_fasttext(files: Files, settings: TextSettings, findings: Findings) -> Source:
    """Lines with words such as `__label__good`, several where a text has several labels."""
    items = [_fasttext_item(f"{found.name} line {n}", line, found.split) for found, file in files for n, line in file.numbered()]
    return Source("fastText's lines with __label__", "classification", items, _several(items), findings)


def _several(items: Sequence[Item]) -> bool:
    return any(len(item.labels) > 1 for item in items)


def _fasttext_item(name: str, line: str, split: str | None) -> Item:
    """Labels lead or end the line; the text between is kept as it is."""
    text, labels = line.strip(), []
    while text.startswith(PREFIX):
        label, _, text = text.partition(" ") if "\t" not in text.split(" ", 1)[0] else text.partition("\t")
        labels.append(label.removeprefix(PREFIX).rstrip(","))
        text = text.lstrip()
    while text.rpartition(" ")[2].startswith(PREFIX):
        text, _, label = text.rpartition(" ")
        labels.append(label.removeprefix(PREFIX))
        text = text.rstrip()
    return Item(name, text.removeprefix(",").strip(), tuple(dict.fromkeys(labels)), (), split)


def read_trec(files: Files, settings: TextSettings, findings: Findings) -> Source:
    """Lines of `COARSE:fine question`."""
    items = []
    for found, file in files:
        for number, line in file.numbered():
            match = TREC.match(line)
            if match:
                items.append(Item(f"{found.name} line {number}", match[2], (match[1],), (), found.split))
            else:
                findings.set_aside("line without a label", f"{found.name} line {number}")
    return Source("TREC's lines of COARSE:fine question", "classification", items, findings=findings)


# -- texts beside labels ----------------------------------------------------------------------------------------------
def labels_beside(path: Path) -> Path | None:
    """The file whose lines are the labels of this one's: train_labels.txt of train_text.txt."""
    match = TEXTS.match(path.stem if path.stem.casefold() != "seq" else path.name)
    if not match:
        return None
    beside = [path.with_name(f"{match[1]}{word}{suffix}") for word in LABELS for suffix in dict.fromkeys((path.suffix, ".txt", ""))]
    return next((other for other in beside if other.is_file() and other != path), None)


def read_parallel(files: Files, settings: TextSettings, findings: Findings) -> Source:
    """A text a line, and its label in the same line of another file.

    Raises:
        DataError: the two have different numbers of lines.
    """
    items = [item for found, file in files for item in _pairs(found, file, settings, findings)]
    return Source("texts and labels in two files, line by line", "classification", items, _several(items), findings)


def _pairs(found: DataFile, file: TextFile, settings: TextSettings, findings: Findings) -> Iterator[Item]:
    beside = labels_beside(found.path)
    assert beside is not None
    labels = TextFile(beside, settings.encoding, findings)
    counts = [sum(1 for _ in one.lines()) for one in (file, labels)]
    if counts[0] != counts[1]:
        raise DataError(f"{found.path} has {counts[0]:,} lines but {beside.name} {counts[1]:,}. A label belongs to each text: mend one.")
    for number, (text, label) in enumerate(zip_longest(file.lines(), labels.lines(), fillvalue=""), start=1):
        cell = label.strip()
        several = as_list(cell, settings.label_separator)
        named = tuple(str(one) for one in ([cell] if several is None else several) if str(one))
        yield Item(f"{found.name} line {number}", text, named, (), found.split)


# -- a file per class -------------------------------------------------------------------------------------------------
def class_of_files(files: Sequence[DataFile]) -> dict[Path, str] | None:
    """The class that each file's name speaks of, splits aside; None: the names tell nothing, or one class only."""
    words = {found.path: _without_split(found.path.name if _same_stems(files) else found.path.stem) for found in files}
    first, last = min(words.values()), max(words.values())  # what these two begin with, all begin with
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    common = first[: max(first.rfind(mark, 0, same) for mark in "._-") + 1]
    classes = {path: word.removeprefix(common) for path, word in words.items()}
    return classes if all(classes.values()) and len(set(classes.values())) > 1 else None


def _same_stems(files: Sequence[DataFile]) -> bool:
    """rt-polarity.pos and rt-polarity.neg: the suffix is the class."""
    return len({found.path.stem for found in files}) < len({found.path.name for found in files})


def _without_split(name: str) -> str:
    words = re.split(r"([._-])", name)
    kept = [word for word in words if word.casefold() not in SPLIT_NAMES]
    return "".join(kept).strip("._-")


def read_class_files(files: Files, classes: dict[Path, str], findings: Findings) -> Source:
    """A file for each class, a text a line."""
    items = [
        Item(f"{found.name} line {number}", line, (classes[found.path],), (), found.split)
        for found, file in files
        for number, line in file.numbered()
    ]
    return Source("a file per class, a text a line", "classification", items, findings=findings)
