"""Splits of a data set: how people name them, and how they are cut where they are not given."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SPLITS = ("train", "validation", "test")
PRECIOUS = {"train": 0, "validation": 1, "test": 2}  # of two copies the one in the more precious split stays
SPLIT_NAMES = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation", "devel": "validation",
    "development": "validation", "eval": "validation", "testa": "validation",
    "test": "test", "testing": "test", "testset": "test", "testb": "test", "holdout": "test",
}  # fmt: skip
TEST_FILES = ("t10k", "trec_10")  # what the test files of MNIST and of TREC begin with
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "fold", "is_valid")
YES = ("1", "true", "1.0")


def split_of(name: str | Path) -> str | None:
    """The split that a file or folder is named after, or the innermost folder of a path that is.

    Examples are train, Final_Training, valid/images, eng.testa, instances_val2017.json and test-00000-of-00001.
    """
    return next((split for part in reversed(Path(name).parts) if (split := _named(part.casefold()))), None)


def _named(name: str) -> str | None:
    if name.startswith(TEST_FILES):
        return "test"
    return next((SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", name) if word in SPLIT_NAMES), None)


def split_of_cell(column: str, value: object) -> str | None:
    """The split that a cell names in a column that is one of `SPLIT_COLUMNS`; None: it names none."""
    word = str(value).strip().casefold()
    if column.strip().casefold() == "is_valid":
        return "validation" if word in YES else "train"
    return SPLIT_NAMES.get(word)


def stratified(labels: Sequence[str], groups: Sequence[str], shares: dict[str, float], seed: int) -> list[str]:
    """A split for each example: `shares` of every class for the named splits, the rest for training.

    Examples of one group, such as frames of one track or copies of one picture or text, stay together. Every class keeps at
    least one group for training; with three or more each split gets one.
    """
    of_class: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    home = {}  # a group belongs to the class it was first seen with, so that it is dealt out once
    for index, (label, group) in enumerate(zip(labels, groups, strict=True)):
        of_class[home.setdefault(group, label)][group].append(index)
    split = ["train"] * len(labels)
    for number, label in enumerate(sorted(of_class)):
        members = list(of_class[label].values())
        order = np.random.default_rng((seed, number)).permutation(len(members))
        for name, chosen in _deal([members[i] for i in order], shares):
            for index in chosen:
                split[index] = name
    return split


def _deal(groups: list[list[int]], shares: dict[str, float]) -> list[tuple[str, list[int]]]:
    """Groups for each named split until it has its share of the examples."""
    total, dealt, position = sum(map(len, groups)), [], 0
    for name in sorted(shares, key=lambda n: -PRECIOUS[n]):
        wanted, taken = max(1.0, shares[name] * total), 0
        while taken < wanted - 0.5 and position < len(groups) - 1:
            dealt.append((name, groups[position]))
            taken += len(groups[position])
            position += 1
    return dealt


def complete(
    given: Sequence[str | None], labels: Sequence[str], groups: Sequence[str], validation: float, test: float, seed: int
) -> list[str]:
    """Splits as given; what is not given is cut from the training part."""
    splits = [name or "train" for name in given]
    missing = {name: share for name, share in (("validation", validation), ("test", test)) if name not in splits}
    if not missing:
        return splits
    cut = [index for index, name in enumerate(splits) if name == "train"]
    dealt = stratified([labels[i] for i in cut], [groups[i] for i in cut], missing, seed)
    for index, name in zip(cut, dealt, strict=True):
        splits[index] = name
    return splits


def leaks(splits: Sequence[str], contents: Sequence[str]) -> list[tuple[int, int]]:
    """(copy to remove, copy to keep) for equal contents in different splits; the more precious split keeps its own."""
    keeper: dict[str, int] = {}
    for index, content in enumerate(contents):
        if content not in keeper or PRECIOUS[splits[index]] > PRECIOUS[splits[keeper[content]]]:
            keeper[content] = index
    return [(i, keeper[c]) for i, c in enumerate(contents) if splits[i] != splits[keeper[c]]]
