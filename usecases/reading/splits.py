"""Splits of a data set: names of splits, and stratified splits of data sets without them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

SPLITS = ("train", "validation", "test")
PRIORITY = {"train": 0, "validation": 1, "test": 2}  # of two duplicates the one in the split of higher priority is kept
SPLIT_NAMES = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation", "devel": "validation",
    "development": "validation", "eval": "validation", "testa": "validation",
    "test": "test", "testing": "test", "testset": "test", "testb": "test", "holdout": "test",
}  # fmt: skip
TEST_FILES = ("t10k", "trec_10")  # prefixes of the test files of MNIST and TREC
FILLERS = frozenset(
    [
        "set",
        "sets",
        "data",
        "dataset",
        "images",
        "image",
        "img",
        "imgs",
        "pictures",
        "photos",
        "texts",
        "labels",
        "annotations",
        "split",
        "splits",
        "subset",
        "final",
        "instances",
        "part",
        "of",
        "obj",
        "full",
    ]
)
"""Words that stand next to a split in the names of folders."""
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "fold", "is_valid")
YES = ("1", "true", "1.0")


def split_of(name: str | Path) -> str | None:
    """The split that is a word of a file's name, else the innermost folder of its path that is named after one; None if none is.

    Examples are train, valid/images/1.png, eng.testa, instances_val2017.json and test-00000-of-00001.
    """
    path = Path(name)
    file = path.name.casefold()
    if file.startswith(TEST_FILES):
        return "test"
    return next((SPLIT_NAMES[word] for word in _words(file) if word in SPLIT_NAMES), None) or split_of_folder(path.parent)


def split_of_folder(name: str | Path) -> str | None:
    """The split after which the innermost folder of a path is named; None if none is.

    Nothing but a split, numbers and `FILLERS` may be in a name: Final_Training, train2017 and Test set (2), not test-tube.
    """
    return next((split for part in reversed(Path(name).parts) if (split := _split_of_words(_words(part)))), None)


def splits_of_siblings(names: Iterable[str]) -> dict[str, str]:
    """The splits of folders, or of stems of files, that lie next to each other, for those that are named after one.

    They are named after splits, too, if the rest of their names is the same: seg_train next to seg_test.
    """
    found: dict[str, str] = {}
    alike: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        words = _words(name)
        if split := _split_of_words(words):
            found[name] = split
        elif split := next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None):
            alike[tuple(word for word in words if word not in FILLERS and word not in SPLIT_NAMES)][name] = split
    for splits in alike.values():
        if len(set(splits.values())) > 1:
            found |= splits
    return found


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", name.casefold())


def _split_of_words(words: Sequence[str]) -> str | None:
    rest = [word for word in words if word not in FILLERS]
    splits = {SPLIT_NAMES.get(word) for word in rest}
    if splits == {"train", "validation"}:  # as in train_val
        return "train"
    return splits.pop() if len(splits) == 1 else None


def split_of_cell(column: str, value: object) -> str | None:
    """The split that a cell of one of `SPLIT_COLUMNS` names; None if it names none."""
    word = str(value).strip().casefold()
    if column.strip().casefold() == "is_valid":
        return "validation" if word in YES else "train"
    return SPLIT_NAMES.get(word)


def stratified(labels: Sequence[str], groups: Sequence[str], shares: dict[str, float], seed: int) -> list[str]:
    """Split examples with stratification by class, and with groups that stay together.

    Every class keeps at least one group for training; with three or more groups each split gets one.

    Args:
        labels: class of each example.
        groups: group of each example, such as the track of a frame, or the content of a duplicate.
        shares: share of the examples of each class by split; the rest is for training.
        seed: random seed.

    Returns:
        The split of each example.
    """
    of_class: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    home = {}  # a group belongs to the class of its first example, so that it is assigned once
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
    """Assign groups to each split until it has its share of the examples."""
    total, dealt, position = sum(map(len, groups)), [], 0
    for name in sorted(shares, key=lambda n: -PRIORITY[n]):
        wanted, taken = max(1.0, shares[name] * total), 0
        while taken < wanted - 0.5 and position < len(groups) - 1:
            dealt.append((name, groups[position]))
            taken += len(groups[position])
            position += 1
    return dealt


def complete(
    given: Sequence[str | None], labels: Sequence[str], groups: Sequence[str], validation: float, test: float, seed: int
) -> list[str]:
    """Complete given splits: a missing validation or test split is taken from the training split, with stratification.

    Args:
        given: the given split of each example; None: training.
        labels: class of each example.
        groups: group of each example, which stays together.
        validation: share of the training split for validation.
        test: share of the training split for the test.
        seed: random seed.

    Returns:
        The split of each example.
    """
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
    """Duplicates across splits, as pairs of the one to remove and the one to keep; the split of higher priority keeps its own."""
    keeper: dict[str, int] = {}
    for index, content in enumerate(contents):
        if content not in keeper or PRIORITY[splits[index]] > PRIORITY[splits[keeper[content]]]:
            keeper[content] = index
    return [(i, keeper[c]) for i, c in enumerate(contents) if splits[i] != splits[keeper[c]]]
