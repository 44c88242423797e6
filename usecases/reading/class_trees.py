"""Detection of a folder per class, possibly within folders that are named after splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from usecases.reading.files import subfolders
from usecases.reading.splits import splits_of_siblings


@dataclass(frozen=True)
class ClassTree:
    """Folders of classes. `parts`: folders whose subfolders are classes, each with its split, or None if there are no splits."""

    parts: list[tuple[Path, str | None]]

    @property
    def layout(self) -> str:
        named = ", ".join(dict.fromkeys(split for _, split in self.parts if split))
        return f"a folder per class, with the splits {named}" if named else "a folder per class, without splits"


def find_classes(root: Path, holds_classes: Callable[[Path], bool]) -> ClassTree:
    """Find the folders of classes. If all of them are named after the training split, the data have no splits.

    Args:
        root: the folder of classes, or of splits.
        holds_classes: whether the subfolders of a folder are classes; it is called for folders that are named after splits.
    """
    named = split_folders(root, holds_classes)
    if {split for _, split in named} <= {"train"}:
        return ClassTree([(folder, None) for folder, _ in named] or [(root, None)])
    return ClassTree([*named])


def split_folders(root: Path, holds_classes: Callable[[Path], bool]) -> list[tuple[Path, str]]:
    """The folders of classes that are named after splits."""
    folders = subfolders(root)
    named = splits_of_siblings(folder.name for folder in folders)
    return [(folder, named[folder.name]) for folder in folders if folder.name in named and holds_classes(folder)]
