"""What a layout gives: texts, each with its classes or its marked spans, and where it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.contract.findings import Findings

Task = Literal["classification", "entities"]

SPLIT_NAMES = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation", "devel": "validation",
    "development": "validation", "eval": "validation", "testa": "validation",
    "test": "test", "testing": "test", "testset": "test", "testb": "test", "holdout": "test",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """A marked part of a text: its characters from `start` up to, not including, `end`."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Item:
    """One text. `name` says where it came from, such as "train.csv line 7"; no labels: none were given, or none apply."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    split: str | None = None


@dataclass
class Source:
    """What was found. `multi_label`: a text may have several classes, or none."""

    layout: str
    task: Task
    items: list[Item]
    multi_label: bool = False
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True)
class Found:
    """A file of a data set: the name it goes by, and the split that its name or its folder's speaks of."""

    path: Path
    name: str
    split: str | None


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of: train, emerging.dev.conll, wnut17train.conll, eng.testa."""
    words = re.split(r"[^a-z]+", name.casefold())
    if name.casefold().startswith("trec_10"):  # the test questions of TREC have never been called anything else
        return "test"
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
