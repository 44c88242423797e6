"""Files with a text per line: those of fastText and TREC, texts and labels in two files, and a file per class."""

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
    filled = [line for line in lines if line.strip()]
    return bool(filled) and sum(map(condition, filled)) >= MIN_SHARE * len(filled)


def read_fasttext(files: Files, settings: TextSettings, findings: Findings) -> Source:
    """Read fastText's files: each line has a word such as `__label__good` for each label of its text.

    Args:
        files: the files with their texts.
        settings: not used.
        findings: become those of the result.

    Returns:
        The texts with their labels.
    """
    items = [_fasttext_item(f"{found.name} line {n}", line, found.split) for found, file in files for n, line in file.numbered()]
    return Source("fastText's lines with __label__", "classification", items, _several(items), findings)


def _several(items: Sequence[Item]) -> bool:
    return any(len(item.labels) > 1 for item in items)


def _fasttext_item(name: str, line: str, split: str | None) -> Item:
    """One line: the labels are at its start or its end; the text between them is kept unchanged."""
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
    """Read TREC's files, whose lines are `COARSE:fine question`.

    Args:
        files: the files with their texts.
        settings: not used.
        findings: lines without a label are added to them.

    Returns:
        The questions with their labels.
    """
    items = []
    for found, file in files:
        for number, line in file.numbered():
            match = TREC.match(line)
            if match:
                items.append(Item(f"{found.name} line {number}", match[2], (match[1],), (), found.split))
            else:
                findings.set_aside("line without a label", f"{found.name} line {number}")
    return Source("TREC's lines of COARSE:fine question", "classification", items, findings=findings)


# -- texts and labels in two files ------------------------------------------------------------------------------------
def label_file_of(path: Path) -> Path | None:
    """The file whose lines are the labels of the lines of this file, such as train_labels.txt for train_text.txt; None if there is none."""
    match = TEXTS.match(path.stem if path.stem.casefold() != "seq" else path.name)
    if not match:
        return None
    named = [path.with_name(f"{match[1]}{word}{suffix}") for word in LABELS for suffix in dict.fromkeys((path.suffix, ".txt", ""))]
    return next((other for other in named if other.is_file() and other != path), None)


def read_parallel(files: Files, settings: TextSettings, findings: Findings) -> Source:
    """Read files with a text per line, whose labels are in the same lines of other files.

    Args:
        files: the files of texts.
        settings: the encoding, and the separator of several labels.
        findings: problems of the files of labels are added to them.

    Returns:
        The texts with their labels.

    Raises:
        DataError: a file of texts and its file of labels have different numbers of lines.
    """
    items = [item for found, file in files for item in _pairs(found, file, settings, findings)]
    return Source("texts and labels in two files, line by line", "classification", items, _several(items), findings)


def _pairs(found: DataFile, file: TextFile, settings: TextSettings, findings: Findings) -> Iterator[Item]:
    label_file = label_file_of(found.path)
    assert label_file is not None
    labels = TextFile(label_file, settings.encoding, findings)
    counts = [sum(1 for _ in one.lines()) for one in (file, labels)]
    if counts[0] != counts[1]:
        raise DataError(
            f"{found.path} has {counts[0]:,} lines but {label_file.name} has {counts[1]:,}. Each text needs a label in the same line: "
            "correct one of the files."
        )
    for number, (text, label) in enumerate(zip_longest(file.lines(), labels.lines(), fillvalue=""), start=1):
        cell = label.strip()
        several = as_list(cell, settings.label_separator)
        named = tuple(str(one) for one in ([cell] if several is None else several) if str(one))
        yield Item(f"{found.name} line {number}", text, named, (), found.split)


# -- a file per class -------------------------------------------------------------------------------------------------
def class_of_files(files: Sequence[DataFile]) -> dict[Path, str] | None:
    """The class in the name of each file, without the split; None if the names have no class or only one."""
    words = {found.path: _without_split(found.path.name if _same_stems(files) else found.path.stem) for found in files}
    first, last = min(words.values()), max(words.values())  # a common prefix of these two is one of all
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    common = first[: max(first.rfind(mark, 0, same) for mark in "._-") + 1]
    classes = {path: word.removeprefix(common) for path, word in words.items()}
    return classes if all(classes.values()) and len(set(classes.values())) > 1 else None


def _same_stems(files: Sequence[DataFile]) -> bool:
    """Whether the suffix is the class, as in rt-polarity.pos and rt-polarity.neg."""
    return len({found.path.stem for found in files}) < len({found.path.name for found in files})


def _without_split(name: str) -> str:
    words = re.split(r"([._-])", name)
    kept = [word for word in words if word.casefold() not in SPLIT_NAMES]
    return "".join(kept).strip("._-")


def read_class_files(files: Files, classes: dict[Path, str], findings: Findings) -> Source:
    """Read files with a text per line, one file for each class.

    Args:
        files: the files with their texts.
        classes: the class of each file.
        findings: become those of the result.

    Returns:
        The texts with their labels.
    """
    items = [
        Item(f"{found.name} line {number}", line, (classes[found.path],), (), found.split)
        for found, file in files
        for number, line in file.numbered()
    ]
    return Source("a file per class, a text per line", "classification", items, findings=findings)
