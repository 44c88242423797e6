"""Listing of folders with symbolic links, hidden files and files that file managers create."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

CLUTTER = ("thumbs.db", "desktop.ini")


def hidden(path: Path) -> bool:
    """Whether a file or folder is not data, by its name: dot files, `__MACOSX` and thumbnails."""
    return path.name.startswith((".", "__MACOSX")) or path.name.casefold() in CLUTTER


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not hidden(path))


def files_in(folder: Path) -> list[Path]:
    """The files directly in a folder, sorted; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not hidden(path))


def unwrap(folder: Path, holds_all: Callable[[list[Path], Path], bool]) -> Path:
    """Descend through folders that contain only one folder.

    Args:
        folder: the folder to start from.
        holds_all: whether to descend into the only subfolder of a folder, given the files next to it and the subfolder.
    """
    while True:
        inside = subfolders(folder)
        if len(inside) != 1 or not holds_all(files_in(folder), inside[0]):
            return folder
        folder = inside[0]


def files_below(folder: Path, with_hidden: bool = False) -> list[Path]:
    """All files below a folder, sorted. Links are followed, except to a folder that contains them.

    Args:
        folder: the folder.
        with_hidden: include hidden files, and files in hidden folders.
    """
    return sorted(walk(folder, with_hidden))


def walk(folder: Path, with_hidden: bool = False, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """All files below a folder, unsorted.

    Args:
        folder: the folder.
        with_hidden: include hidden files, and files in hidden folders.
        above: device and inode of the parent folders, to which links are not followed.

    Yields:
        The files.
    """
    try:
        facts = folder.stat()
        with os.scandir(folder) as entries:
            inside = list(entries)
    except PermissionError:  # skipped, as by `Path.rglob`
        return
    identity = facts.st_dev, facts.st_ino
    if identity in above:
        return
    for entry in inside:
        path = folder / entry.name
        if not with_hidden and hidden(path):
            continue
        if _is_folder(entry):
            yield from walk(path, with_hidden, (*above, identity))
        elif path.is_file() if entry.is_symlink() else entry.is_file():  # not a broken link or a socket
            yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
