"""Texts as they are read from a layout, each with its classes or marked spans."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.contract.findings import Findings

Task = Literal["classification", "entities"]


@dataclass(frozen=True, slots=True)
class Span:
    """A marked part of a text: the characters from `start` to `end`, exclusive."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Item:
    """One text with its labels or spans. `name` is its place in the data, such as "train.csv line 7"."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    split: str | None = None


@dataclass
class Source:
    """A data set as it was read. `multi_label`: a text may have several classes, or none."""

    layout: str
    task: Task
    items: list[Item]
    multi_label: bool = False
    findings: Findings = field(default_factory=Findings)
