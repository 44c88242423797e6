"""A folder for each class, within folders that are named as splits where those are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from usecases.reading.files import subfolders
from usecases.reading.splits import split_of


@dataclass(frozen=True)
class ClassTree:
    """`parts` are the folders whose subfolders are classes, each with its split; None: splits are not given."""

    parts: list[tuple[Path, str | None]]

    @property
    def layout(self) -> str:
        named = ", ".join(dict.fromkeys(split for _, split in self.parts if split))
        return f"a folder per class, with the splits {named}" if named else "a folder per class, without splits"


def find_classes(root: Path, holds_classes: Callable[[Path], bool]) -> ClassTree:
    """Where the classes of a folder are. Folders that are all named as training data give no splits.

    Args:
        root: the folder of classes, or of splits.
        holds_classes: whether the subfolders of a folder are classes; asked of folders that are named as splits.
    """
    named = split_folders(root, holds_classes)
    if {split for _, split in named} <= {"train"}:
        return ClassTree([(folder, None) for folder, _ in named] or [(root, None)])
    return ClassTree([*named])


def split_folders(root: Path, holds_classes: Callable[[Path], bool]) -> list[tuple[Path, str]]:
    """The folders of classes that are named as splits."""
    return [(folder, split) for folder in subfolders(root) if (split := split_of(folder.name)) and holds_classes(folder)]
