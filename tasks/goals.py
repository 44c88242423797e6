"""What a person wants of a released model, in a sentence: "at most 1 % worse, as fast as possible", "under 5 MB", "under 8 ms p95"."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

NUMBER = r"(\d+(?:[.,]\d+)?)"
LIMIT = r"(?:under|below|less than|at most|no more than|up to|within|max(?:imum)?(?: of)?)"
MEGABYTES = {"kb": 1e-3, "mb": 1.0, "gb": 1e3}
MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
EXAMPLES = '"at most 1 % worse, as fast as possible", "at most 0.5 points worse and under 5 MB", "under 8 ms p95, as small as possible"'

Fields = dict[str, Any]


def _number(written: str) -> float:
    return float(written.replace(",", "."))


PHRASES: list[tuple[str, Callable[[re.Match[str]], Fields]]] = [
    (rf"{LIMIT} {NUMBER} ?(?:%|percent) (?:worse|lost|loss)", lambda found: {"max_relative_loss": _number(found[1]) / 100}),
    (rf"{LIMIT} {NUMBER} points? (?:worse|lost|loss)", lambda found: {"max_loss": _number(found[1]) / 100}),
    (r"(?:no|not|never) (?:worse|loss)", lambda found: {"max_loss": 0.0}),
    (rf"{LIMIT} {NUMBER} ?(kb|mb|gb)", lambda found: {"max_megabytes": round(_number(found[1]) * MEGABYTES[found[2]], 9)}),
    (
        rf"{LIMIT} {NUMBER} ?(us|µs|ms|s)(?: (?:at )?p95)?",
        lambda found: {"max_latency_ms": round(_number(found[1]) * MILLISECONDS[found[2]], 9)},
    ),
    (r"(?:as fast as possible|(?:the )?fastest)(?: on this cpu)?", lambda found: {"objective": "latency"}),
    (r"(?:as small as possible|(?:the )?smallest)", lambda found: {"objective": "size"}),
]


def read_goal(sentence: str) -> Fields:
    """The fields of a `Budget` that a sentence speaks of.

    Raises:
        ValueError: a part of it is not understood, or two parts say different things of the same; which, and what would be.
    """
    said: Fields = {}
    parts = re.split(r",(?!\d)|;|\band\b|\bbut\b", sentence.lower().strip().rstrip("."))
    for words in filter(None, (" ".join(part.split()) for part in parts)):
        fields = next((make(found) for phrase, make in PHRASES if (found := re.fullmatch(phrase, words))), None)
        if fields is None:
            raise ValueError(f"{words!r} is not understood. What is: {EXAMPLES}.")
        twice = fields.keys() & said.keys() or ({"max_loss", "max_relative_loss"} <= {*fields, *said})
        if twice:
            raise ValueError(f"{sentence!r} says two things of the same: {words!r} is the second.")
        said |= fields
    return said
