"""Checks of the texts before training: each text on its own, then duplicates, then classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.nlp.sources import Item, Source, Span
from usecases.reading.labels import note_similar_names
from usecases.reading.splits import SPLITS

MAX_CHARACTERS = 100_000  # of a text; longer ones are cut
QUOTED = 60  # characters of a text in a finding


# -- each text --------------------------------------------------------------------------------------------------------
def usable(source: Source) -> list[Item]:
    """The usable texts without surrounding white space; the others are set aside with the reason."""
    kept = []
    for item in source.items:
        reason = _refused(item, source)
        if reason:
            source.findings.set_aside(*reason)
        else:
            kept.append(_tidy(item, source.findings))
    return kept


def _refused(item: Item, source: Source) -> tuple[str, str] | None:
    if not item.text.strip():
        return "empty text", item.name
    if source.task == "classification" and not source.multi_label:
        if not item.labels:
            return "text without a label", item.name
        if len(item.labels) > 1:
            return "text with several labels", f"{item.name}: {', '.join(item.labels)}"
    outside = [s for s in item.spans if not 0 <= s.start < s.end <= len(item.text)]
    if outside:
        listed = ", ".join(f"{s.start} to {s.end}" for s in outside)
        return "span outside the text", f"{item.name}: {listed} of {len(item.text)} characters"
    return None


def _tidy(item: Item, findings: Findings) -> Item:
    """The item without surrounding white space, at most `MAX_CHARACTERS` long, with spans that do not overlap."""
    text, spans = item.text.strip(), item.spans
    if spans:
        before = len(item.text) - len(item.text.lstrip())
        spans = _without_overlaps([_inside(item.text, span, before) for span in spans], item.name, findings)
    if len(text) > MAX_CHARACTERS:
        findings.note("text of more than 100,000 characters", f"{item.name}: {len(text):,}", "truncated")
        text, spans = text[:MAX_CHARACTERS], tuple(span for span in spans if span.end <= MAX_CHARACTERS)
    return item if text == item.text and spans == item.spans else replace(item, text=text, spans=spans)


def _inside(text: str, span: Span, before: int) -> Span:
    """The span within the stripped text, without white space at its own ends; `before` characters were stripped in front."""
    marked = text[span.start : span.end]
    start = span.start + len(marked) - len(marked.lstrip())
    return Span(start - before, start + len(marked.strip()) - before, span.label)


def _without_overlaps(spans: list[Span], name: str, findings: Findings) -> tuple[Span, ...]:
    """The spans in order; of two that overlap the longer one is kept."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start - s.end, s.start)):
        if span.end <= span.start:
            findings.note("span of white space", name, "left out")
        elif span in kept:
            findings.note("duplicate span", f"{name}: {span.start} to {span.end} {span.label}", "kept once")
        elif over := next((k for k in kept if k.start < span.end and span.start < k.end), None):
            both = f"{span.start} to {span.end} {span.label} and {over.start} to {over.end} {over.label}"
            findings.note("spans that overlap", f"{name}: {both}", "the longer is kept")
        else:
            kept.append(span)
    return tuple(sorted(kept, key=lambda s: s.start))


# -- duplicates -------------------------------------------------------------------------------------------------------
def note_copies(items: Sequence[Item], splits: Sequence[str], findings: Findings) -> None:
    """Report duplicate texts with different labels, and those with the same labels within one split.

    Duplicates across splits are reported where they are removed.

    Args:
        items: all texts.
        splits: the split of each text.
        findings: the duplicates are added to them.
    """
    first: dict[str, tuple[Item, str]] = {}
    for item, split in zip(items, splits, strict=True):
        original, home = first.setdefault(item.text, (item, split))
        if _targets(original) != _targets(item):
            pair = f"{item.name} ({_shown(item)}) = {original.name} ({_shown(original)}): {item.text[:QUOTED]!r}"
            findings.note("identical texts with different labels", pair)
        elif original is not item and home == split:
            pair = f"{item.name} = {original.name}: {item.text[:QUOTED]!r}"
            findings.note("identical texts with the same labels", pair, "kept, in one split")


def _targets(item: Item) -> tuple[object, ...]:
    """The labels and spans of a text."""
    return (*sorted(item.labels), *item.spans)


def _shown(item: Item) -> str:
    return ", ".join(item.labels) or ", ".join(f"{item.text[s.start : s.end]} {s.label}" for s in item.spans) or "none"


# -- classes ----------------------------------------------------------------------------------------------------------
def labels_of(item: Item) -> list[str]:
    """The classes of a text, or the types of its entities, one for each entity."""
    return [*item.labels, *(span.label for span in item.spans)]


def check(items: Sequence[Item], splits: Sequence[str], labels: Sequence[str], source: Source) -> None:
    """Report problems with the classes or entity types to the findings of the source.

    Args:
        items: all texts.
        splits: the split of each text.
        labels: all classes or types.
        source: the data set that the texts were read from.

    Raises:
        DataError: there are too few classes or types to learn from, or a split is empty.
    """
    _refuse_too_few(items, labels, source)
    findings, what = source.findings, "class" if source.task == "classification" else "type"
    overall = Counter(label for item in items for label in set(labels_of(item)))
    train = Counter(label for item, split in zip(items, splits, strict=True) if split == "train" for label in set(labels_of(item)))
    for label in labels:
        if overall[label] == 1:
            findings.note(f"{what} with a single text", label, "kept; it cannot be in both training and test")
        if not train[label]:
            findings.note(f"{what} without training texts", label, "kept; the network cannot learn it")
    note_similar_names(labels, findings, "labels that differ only in spelling")
    for split in SPLITS:
        if split not in splits:
            raise DataError(
                f"No text is left for the {split} split: there are {len(items)} texts with {len(labels)} labels. Add texts, at least three per label."
            )


def _refuse_too_few(items: Sequence[Item], labels: Sequence[str], source: Source) -> None:
    if source.task == "entities" and not labels:
        raise DataError(
            f"No entity is marked in any of {len(items):,} texts ({source.layout}). Entity recognition needs at least one entity type; "
            "mark entities, or set --usecase.task classification."
        )
    if source.task == "classification" and len(labels) < (1 if source.multi_label else 2):
        only = repr(labels[0]) if labels else "none"
        raise DataError(
            f"There is only one class, {only} ({source.layout}). Classification needs at least two: add texts of another class."
        )
