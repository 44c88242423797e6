"""Walking through folders as people have them: symbolic links, hidden files, what file managers leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

CLUTTER = ("thumbs.db", "desktop.ini")


def hidden(path: Path) -> bool:
    """Whether a file or folder is none of the user's data by its name: dot files, `__MACOSX` and thumbnails."""
    return path.name.startswith((".", "__MACOSX")) or path.name.casefold() in CLUTTER


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not hidden(path))


def files_in(folder: Path) -> list[Path]:
    """The files directly in a folder, sorted; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not hidden(path))


def unwrap(folder: Path, holds_all: Callable[[list[Path], Path], bool]) -> Path:
    """Down through folders that hold nothing but one folder.

    Args:
        folder: where to begin.
        holds_all: whether a folder's only subfolder holds all that matters, by the files next to it and that subfolder.
    """
    while True:
        inside = subfolders(folder)
        if len(inside) != 1 or not holds_all(files_in(folder), inside[0]):
            return folder
        folder = inside[0]


def files_below(folder: Path, with_hidden: bool = False) -> list[Path]:
    """All files below a folder, sorted. Links to files and folders are followed, each folder once on the way down to a file.

    Args:
        folder: where to begin.
        with_hidden: also hidden files, and those in hidden folders.
    """
    return sorted(walk(folder, with_hidden))


def walk(folder: Path, with_hidden: bool = False, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """`files_below` in no order, as they are found. `above`: device and inode of the folders above, which a link must not lead back to."""
    try:
        facts = folder.stat()
        inside = list(folder.iterdir())
    except PermissionError:  # as when a folder is listed with `Path.rglob`
        return
    identity = facts.st_dev, facts.st_ino
    if identity in above:
        return
    for path in inside:
        if not with_hidden and hidden(path):
            continue
        if path.is_dir():
            yield from walk(path, with_hidden, (*above, identity))
        elif path.is_file():  # no broken link, no socket
            yield path
