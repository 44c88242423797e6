"""A folder per class, a text per file."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from tasks.contract.findings import Findings
from usecases.nlp.reading.encodings import MARKS, guessed
from usecases.nlp.sources import Item, Source, split_of

SUFFIXES = (".txt", ".text", ".htm", ".html", ".md", "")
CLUTTER = ("thumbs.db", "desktop.ini")
UNLABELLED = ("unsup", "unlabeled", "unlabelled", "unsupervised")


def hidden(path: Path) -> bool:
    return path.name.startswith((".", "__MACOSX")) or path.name.casefold() in CLUTTER


def subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not hidden(p))


def unwrap(folder: Path) -> Path:
    """Down through folders that hold one folder and nothing else."""
    while True:
        inside = [p for p in folder.iterdir() if not hidden(p)]
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        folder = inside[0]


def split_folders(root: Path) -> list[tuple[Path, str]]:
    """Folders of classes that are named as splits."""
    return [(folder, split) for folder in subfolders(root) if (split := split_of(folder.name)) and _has_classes(folder)]


def is_class_tree(root: Path) -> bool:
    return bool(split_folders(root)) or _has_classes(root)


def _has_classes(folder: Path) -> bool:
    """Two or more folders that hold documents, whose names do not speak of splits: those would be data sets of their own."""
    classes = subfolders(folder)
    return len(classes) > 1 and all(any(_is_document(p) for p in c.rglob("*")) and not _is_data_set(c) for c in classes)


def _is_document(path: Path) -> bool:
    return path.is_file() and not hidden(path) and (path.suffix.casefold() in SUFFIXES or path.suffix[1:].isdecimal())


def _is_data_set(folder: Path) -> bool:
    files = [p for p in folder.iterdir() if p.is_file() and not hidden(p)]
    return split_of(folder.name) is not None or (bool(files) and sum(split_of(p.stem) is not None for p in files) * 2 >= len(files))


def read_tree(path: Path, root: Path, encoding: str, findings: Findings) -> Source:
    """Every file below a class's folder is a text of it."""
    reader = _Reader(encoding, findings)
    splits = split_folders(root)
    parts = splits or [(root, None)]
    if {split for _, split in parts} == {"train"}:
        parts = [(folder, None) for folder, _ in parts]
    items = [item for folder, split in parts for item in _classes(path, folder, split, reader, findings)]
    named = ", ".join(dict.fromkeys(split for _, split in parts if split))
    layout = f"a folder per class, with the splits {named}" if named else "a folder per class, without splits"
    return Source(layout, "classification", reader.finished(items), findings=findings)


def _classes(top: Path, folder: Path, split: str | None, reader: _Reader, findings: Findings) -> Iterator[Item]:
    for class_folder in subfolders(folder):
        if class_folder.name.casefold() in UNLABELLED:
            findings.note(
                "folder of texts without labels", str(class_folder.relative_to(top)), "left out; name it with --usecase.unlabelled"
            )
            continue
        found = False
        for path in sorted(class_folder.rglob("*")):
            if path.is_dir() or hidden(path):
                continue
            if not _is_document(path):
                findings.note("file that is no text", str(path.relative_to(top)), "ignored")
                continue
            found = True
            yield Item(str(path.relative_to(top)), reader.text(path), (class_folder.name,), (), split)
        if not found:
            findings.note("empty class", str(class_folder.relative_to(top)), "left out")


class _Reader:
    """Reads small files. The encoding of those that are not UTF-8 is told from all of them together: each is too short."""

    def __init__(self, encoding: str, findings: Findings) -> None:
        self.encoding, self.findings = encoding, findings
        self.old: dict[str, bytes] = {}

    def text(self, path: Path) -> str:
        data = path.read_bytes()
        marked = next((encoding for mark, encoding in MARKS if data.startswith(mark)), None)
        try:
            return data.decode(self.encoding or marked or "utf-8").replace("\0", "")
        except UnicodeDecodeError:
            if self.encoding or marked:
                self.findings.note("unreadable characters", path.name, "left as \ufffd")
                return data.decode(self.encoding or marked or "", errors="replace")
        key = f"\0{len(self.old)}"
        self.old[key] = data
        return key

    def finished(self, items: list[Item]) -> list[Item]:
        """The items with the texts whose encoding is known only now."""
        if not self.old:
            return items
        encoding = guessed(line for data in self.old.values() for line in data.splitlines())
        self.findings.note("file in another encoding than UTF-8", f"read as {encoding}", "or say --usecase.encoding", len(self.old))
        decode = codecs.getdecoder(encoding)
        return [
            Item(i.name, decode(self.old[i.text], "replace")[0], i.labels, (), i.split) if i.text.startswith("\0") else i for i in items
        ]
