"""Files with the names of numbered classes: class.txt, labels.txt, mapping.txt, categories.json."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tasks.contract.findings import Findings
from usecases.nlp.sources import Item, Source
from usecases.reading.encodings import TextFile

STEMS = re.compile(
    r"^(class|classes|labels?|mapping|categor(y|ies)|(class|label|category)[_-]?(names?|list|map|mapping)|id2label|label2id)$"
)
NUMBERED = re.compile(r"^\s*(\d+)[\t ,:;=]+(\S.*)$")
REVERSED = re.compile(r"^(.*\S)[\t ,:;=]+(\d+)\s*$")
MAX_CLASSES = 5000


def is_class_list(path: Path) -> bool:
    """Whether a file is a list of classes, by its name and because its lines are unique: labels.txt may also hold the label of each text."""
    if not STEMS.match(path.stem.casefold()) or path.suffix.casefold() not in (".txt", ".json", ".csv", ".tsv", ""):
        return False
    return bool(read_class_list(path, Findings()))


def read_class_list(path: Path, findings: Findings) -> dict[int, str] | list[str]:
    """The names of the classes by number, or in order if the file has no numbers; empty if the file is not a list of classes."""
    if path.stat().st_size > 100 * MAX_CLASSES:
        return []
    if path.suffix.casefold() == ".json":
        return _from_json(path)
    lines = [line.strip() for line in TextFile(path, "", findings).lines() if line.strip()]
    if len(set(lines)) != len(lines) or len(lines) > MAX_CLASSES or all(line.isdecimal() for line in lines):
        return []
    for pattern, number, name in ((NUMBERED, 1, 2), (REVERSED, 2, 1)):
        found = [pattern.match(line) for line in lines]
        named = {int(match[number]): match[name].split("\t")[0].strip() for match in found if match}
        if lines and len(named) == len(lines):
            return named
    return [line.split("\t")[0] for line in lines]


def _from_json(path: Path) -> dict[int, str] | list[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return []
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    if isinstance(content, dict) and all(key.isdecimal() and isinstance(name, str) for key, name in content.items()):
        return {int(key): name for key, name in content.items()}
    if isinstance(content, dict) and all(isinstance(number, int) for number in content.values()):
        return {number: name for name, number in content.items()}
    return []


def with_names(source: Source, path: Path) -> Source:
    """Replace numeric labels by the names of a list. A list without numbers counts from 0, or from 1 if the labels do."""
    names = read_class_list(path, source.findings)
    labels = {label for item in source.items for label in item.labels}
    if source.task != "classification" or not labels or not all(label.isdecimal() for label in labels):
        return source
    numbers = sorted(int(label) for label in labels)
    if isinstance(names, list):
        names = dict(enumerate(names, start=int(numbers[0] > 0 and numbers[-1] == len(names))))
    if not names.keys() >= set(numbers):
        unnamed = ", ".join(str(n) for n in numbers if n not in names)
        source.findings.note(
            "list of classes that does not match the labels", f"{path.name} names {len(names)} classes, but not {unnamed}", "not used"
        )
        return source
    source.items = _renamed(source.items, {label: names[int(label)] for label in labels})
    source.layout += f", classes named by {path.name}"
    return source


def _renamed(items: Sequence[Item], names: dict[str, str]) -> list[Item]:
    return [replace(item, labels=tuple(names[label] for label in item.labels)) for item in items]
