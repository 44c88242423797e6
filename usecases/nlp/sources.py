"""What a layout gives: texts, each with its classes or its marked spans, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.contract.findings import Findings

Task = Literal["classification", "entities"]


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
