"""Parses a budget from a sentence: "at most 1 % worse, as fast as possible", "under 5 MB", "under 8 ms p95"."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

NUMBER = r"((?![1-9]\d{0,2}[.,]\d{3}(?!\d))\d+(?:[.,]\d+)?)"  # "1,500" is ambiguous (thousands or a fraction) and not accepted
LIMIT = r"(?:under|below|less than|at most|no more than|up to|within|max(?:imum)?(?: of)?)"
MEGABYTES = {"kb": 1e-3, "mb": 1.0, "gb": 1e3}
MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
EXAMPLES = '"at most 1 % worse, as fast as possible", "at most 0.5 points worse and under 5 MB", "under 8 ms p95, as small as possible"'

Fields = dict[str, Any]


def _number(written: str, unit: float = 1.0) -> float:
    return round(float(written.replace(",", ".")) * unit, 9)


def _relative(loss: float) -> Fields:
    return {"max_relative_loss": loss} if loss else _absolute(0.0)


def _absolute(loss: float) -> Fields:
    """The fields of an absolute loss; they unset the relative loss, which would take precedence."""
    return {"max_loss": loss, "max_relative_loss": 0.0}


PHRASES: list[tuple[str, Callable[[re.Match[str]], Fields]]] = [
    (rf"{LIMIT} {NUMBER} ?(?:%|percent) (?:worse|lost|loss)", lambda found: _relative(_number(found[1], 0.01))),
    (rf"{LIMIT} {NUMBER} points? (?:worse|lost|loss)", lambda found: _absolute(_number(found[1], 0.01))),
    (r"(?:no|not|never) (?:worse|loss)", lambda found: _absolute(0.0)),
    (rf"{LIMIT} {NUMBER} ?(kb|mb|gb)", lambda found: {"max_megabytes": _number(found[1], MEGABYTES[found[2]])}),
    (rf"{LIMIT} {NUMBER} ?(us|µs|ms|s)(?: (?:at )?p95)?", lambda found: {"max_latency_ms": _number(found[1], MILLISECONDS[found[2]])}),
    (r"(?:as fast as possible|(?:the )?fastest)(?: on this cpu)?", lambda found: {"objective": "latency"}),
    (r"(?:as small as possible|(?:the )?smallest)", lambda found: {"objective": "size"}),
]


def read_goal(sentence: str) -> Fields:
    """The fields of a `Budget` that a sentence sets. The sentence is refused unless all of it is understood.

    Raises:
        ValueError: a part of it is not understood, two parts contradict each other, or a value is out of range. The message names what was
            understood, what was not, and sentences that are.
    """
    parts = [" ".join(part.split()) for part in re.split(r",(?!\d)|;|\band\b|\bbut\b", sentence.lower().strip().rstrip("."))]
    read = [(part, _read_part(part)) for part in parts if part]
    understood, problems = Fields(), []
    for part, fields in read:
        if fields is None:
            problems.append(f"not understood: {part!r}")
        elif fields.keys() & understood.keys():
            problems.append(f"contradicts another part: {part!r}")
        elif not _is_possible(fields):
            problems.append(f"out of range: {part!r}")
        else:
            understood |= fields
    if problems or not read:
        found = ", ".join(f"{name} {value}" for name, value in understood.items()) or "nothing"
        raise ValueError("; ".join([f"{sentence!r} is refused. Understood: {found}", *problems]) + f". Expected something like {EXAMPLES}.")
    return understood


def _read_part(part: str) -> Fields | None:
    return next((make(found) for phrase, make in PHRASES if (found := re.fullmatch(phrase, part))), None)


def _is_possible(fields: Fields) -> bool:
    """Whether limits of latency and size are above 0 (0 would mean no limit), and a relative loss is below 100 %."""
    return all(fields.get(name, 1) for name in ("max_megabytes", "max_latency_ms")) and fields.get("max_relative_loss", 0) < 1
