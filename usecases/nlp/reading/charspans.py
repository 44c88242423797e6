"""Character spans in JSON: CLUENER's nested objects, lists of start, end and label, or objects with such keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from usecases.nlp.sources import Span

STARTS = ("start", "start_offset", "start_idx", "begin", "from")
ENDS = ("end", "end_offset", "end_idx", "to")
LABELS = ("label", "type", "entity_type", "entity_group", "tag", "category", "entity", "class")
SURFACES = ("text", "surface", "word", "mention", "entity", "span", "value")


class BadSpan(ValueError):
    """A span cannot be read. The message says why."""


def is_spans(value: object) -> bool:
    """Whether a value marks at least one part of a text."""
    if isinstance(value, dict):
        return bool(value) and all(isinstance(inner, dict) and all(map(_is_pairs, inner.values())) for inner in value.values())
    return isinstance(value, list) and bool(value) and all(_is_triple(one) or _is_object(one) for one in value)


def read(value: Any, text: str, inclusive: bool) -> list[Span]:
    """Read the spans of a text.

    Args:
        value: the spans as they are written.
        text: the text.
        inclusive: the ends are the offsets of the last characters.

    Returns:
        The spans in the order in which they are written.

    Raises:
        BadSpan: a span has no start, end or label.
    """
    return [Span(start, end + inclusive, label) for start, end, label, _ in _each(value)]


def are_inclusive(pairs: Iterable[tuple[Any, str]]) -> bool:
    """Whether the ends in these pairs (value, text) are inclusive, judged by the quoted surfaces; False if there are none."""
    last = past = 0
    for value, text in pairs:
        for start, end, _, surface in _each(value, strict=False):
            last += surface is not None and text[start : end + 1] == surface
            past += surface is not None and text[start:end] == surface
    return last > past


def misread(value: Any, text: str, inclusive: bool) -> Iterator[str]:
    """Find the spans whose text differs from the surface that is quoted with them.

    Args:
        value: the spans as they are written.
        text: the text.
        inclusive: the ends are the offsets of the last characters.

    Yields:
        A message for each such span.
    """
    for start, end, _, surface in _each(value, strict=False):
        if surface is not None and text[start : end + inclusive] != surface:
            yield f"{start} to {end} is {text[start : end + inclusive]!r}, not {surface!r}"


def _each(value: Any, strict: bool = True) -> Iterator[tuple[int, int, str, str | None]]:
    if isinstance(value, dict):
        for label, surfaces in value.items():
            for surface, pairs in surfaces.items():
                yield from ((pair[0], pair[1], str(label), str(surface)) for pair in pairs)
        return
    for one in value or ():
        try:
            yield _of_object(one) if isinstance(one, dict) else _of_triple(one)
        except BadSpan:
            if strict:
                raise


def _of_triple(one: Any) -> tuple[int, int, str, str | None]:
    numbers, words = [v for v in one if isinstance(v, int)], [v for v in one if isinstance(v, str)]
    if len(numbers) < 2 or not words:
        raise BadSpan(f"{one!r:.80} has no start, end and label")
    return numbers[0], numbers[1], words[0], None


def _of_object(one: dict[str, Any]) -> tuple[int, int, str, str | None]:
    start, end, label = (next((one[key] for key in keys if key in one), None) for keys in (STARTS, ENDS, LABELS))
    label = label[0] if isinstance(label, list) and label else label
    if not (isinstance(start, int) and isinstance(end, int) and label):
        raise BadSpan(f"{one!r:.80} has no start, end and label")
    quoted = next((one[key] for key in SURFACES if isinstance(one.get(key), str) and one[key] is not label), None)
    return start, end, str(label), quoted


def _is_triple(one: object) -> bool:
    if not isinstance(one, (list, tuple)) or len(one) < 3:
        return False
    return sum(isinstance(v, int) for v in one) >= 2 and any(isinstance(v, str) for v in one)


def _is_object(one: object) -> bool:
    return isinstance(one, dict) and any(key in one for key in STARTS) and any(key in one for key in ENDS)


def _is_pairs(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(p, (list, tuple)) and len(p) == 2 and all(isinstance(n, int) for n in p) for p in value
    )
