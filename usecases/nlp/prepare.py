"""Preparation of texts: they are read, checked, split and written; a missing split is cut from training, duplicates stay in one split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from tasks.contract.types import Say
from usecases.nlp.checks import check, labels_of, note_copies, usable
from usecases.nlp.reading.layouts import find_source
from usecases.nlp.reading.unlabelled import read_unlabelled
from usecases.nlp.sources import Item, Source
from usecases.nlp.texts import write_texts
from usecases.nlp.tokens import write_tokens
from usecases.reading.labels import by_number
from usecases.reading.splits import SPLITS, complete, leaks

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

SHOWN = 200  # largest number of characters of the example, if the test split has a text as short as this
NO_ENTITY = ""


def prepare(settings: TextSettings, folder: Path, say: Say) -> dict[str, Any]:
    """Read, check, split and write the texts, then their tokens.

    Args:
        settings: settings of the data and the tokenizer.
        folder: folder of the prepared data set.
        say: reports progress.

    Returns:
        The card of the data set.

    Raises:
        DataError: too many texts are unusable, or too few are left.
    """
    card = read_and_split(settings, folder, say)
    return {**card, "facts": {"characters": card["characters"], **write_tokens(settings, folder, say)}}


def read_and_split(settings: TextSettings, folder: Path, say: Say) -> dict[str, Any]:
    """Read, check and split the texts, and write `train/`, `validation/`, `test/`, the labels, an example and the unlabelled texts.

    Args:
        settings: settings of the data.
        folder: folder of the prepared data set.
        say: reports progress.

    Returns:
        The card of the data set, without facts about tokens.

    Raises:
        DataError: too many texts are unusable, or too few are left.
    """
    say("reading the texts")
    source = find_source(settings)
    findings, total = source.findings, len(source.items) + source.findings.unusable
    if not total:
        raise DataError(f"No texts were found in --usecase.data {settings.data}. Give a folder or file that holds texts.")
    source.items = usable(source)
    findings.refuse_past(settings.tolerance, total, "texts")
    if settings.dev_is_test:
        source.items = _dev_as_test(source)
    say(f"splitting {len(source.items):,} texts")
    items, splits = _split(source, settings)
    labels = sorted({label for item in items for label in labels_of(item)}, key=by_number)
    check(items, splits, labels, source)
    say("writing")
    of_split = {name: [item for item, split in zip(items, splits, strict=True) if split == name] for name in SPLITS}
    for name, chosen in of_split.items():
        write_texts(folder / name, chosen, source.task == "entities")
    counts = {name: Counter(label for item in chosen for label in labels_of(item)) for name, chosen in of_split.items()}
    _write_assets(folder / "assets", source, {label: counts["train"][label] for label in labels}, len(of_split["train"]))
    _write_example(folder / "example.txt", of_split["test"])
    unlabelled = _write_unlabelled(settings, folder, {item.text for name in SPLITS[1:] for item in of_split[name]}, findings, say)
    return {
        "layout": source.layout,
        "task": source.task,
        "multi": source.multi_label,
        "sizes": {name: len(chosen) for name, chosen in of_split.items()},
        "labels": labels,
        "counts": {name: {label: counts[name][label] for label in labels} for name in SPLITS},
        "characters": _lengths(items),
        **({"unlabelled": unlabelled} if settings.unlabelled else {}),
        "findings": findings.listed(),
    }


# -- splits -----------------------------------------------------------------------------------------------------------
def _dev_as_test(source: Source) -> list[Item]:
    """The texts with the given validation split as the test split, for data sets whose published scores are on it."""
    given = {item.split for item in source.items}
    if "validation" not in given:
        named = ", ".join(sorted(str(name) for name in given - {None})) or "none"
        raise DataError(
            f"--usecase.dev_is_test: the data have no dev or validation split ({source.layout}; splits: {named}). Leave the setting out."
        )
    unused = sum(item.split == "test" for item in source.items)
    if unused:
        source.findings.note("given test split", f"{unused:,} texts", "not used because of --usecase.dev_is_test", unused)
    moved = [item for item in source.items if item.split != "test"]
    return [replace(item, split="test") if item.split == "validation" else item for item in moved]


def _split(source: Source, settings: TextSettings) -> tuple[list[Item], list[str]]:
    """The items and their splits. Duplicates across given splits are removed, so that no test or validation text is trained on."""
    items = source.items
    given = [item.split or "train" for item in items]
    note_copies(items, given, source.findings)
    doubled = dict(leaks(given, [item.text for item in items]))
    for copy, original in doubled.items():
        action = f"removed from {given[copy]}"
        source.findings.note("identical text in two splits", f"{items[copy].name} = {items[original].name}", action)
    items = [item for i, item in enumerate(items) if i not in doubled]
    texts = [item.text for item in items]  # duplicates of one text stay in one split
    shares = settings.validation_share, settings.test_share
    return items, complete([item.split for item in items], _strata(items), texts, *shares, settings.split_seed)


def _strata(items: Sequence[Item]) -> list[str]:
    """The label by which each text is stratified: the rarest of several labels or types, so that it reaches every split."""
    often = Counter(label for item in items for label in set(labels_of(item)))
    return [min(labels_of(item), key=lambda label: (often[label], label), default=NO_ENTITY) for item in items]


# -- writing ----------------------------------------------------------------------------------------------------------
def _write_assets(folder: Path, source: Source, counts: dict[str, int], texts: int) -> None:
    """Write the labels, the number of training texts, and that of each label, from which class weights are computed."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"task": source.task, "labels": list(counts), "multi": source.multi_label, "texts": texts, "counts": counts}
    (folder / "labels.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_example(path: Path, items: Sequence[Item]) -> None:
    """Write a text of the test split as the example, of moderate length and with an entity if a text has one."""
    rich = [item for item in items if item.spans] or items
    short = [item for item in rich if len(item.text) <= SHOWN] or [min(rich, key=lambda item: len(item.text))]
    shown = sorted(short, key=lambda item: len(item.text))[len(short) // 2].text
    path.write_bytes(shown.encode("utf-8", errors="replace"))


def _write_unlabelled(settings: TextSettings, folder: Path, held_out: set[str], findings: Findings, say: Say) -> int:
    """Write the texts without labels, and return their number."""
    if not settings.unlabelled:
        return 0
    say("reading texts without labels")
    count = 0
    with (folder / "unlabelled.jsonl").open("wb") as file:
        for text in read_unlabelled(settings, held_out, findings):
            file.write((json.dumps({"text": text}, ensure_ascii=False) + "\n").encode("utf-8", errors="replace"))
            count += 1
    if not count:
        raise DataError(f"--usecase.unlabelled {settings.unlabelled} holds no text. Give a file or folder of texts, or leave it empty.")
    return count


def _lengths(items: Sequence[Item]) -> str:
    lengths = np.array([len(item.text) for item in items])
    return f"median {np.median(lengths):,.0f}, 95 % below {np.ceil(np.percentile(lengths, 95)) + 1:,.0f} characters"
