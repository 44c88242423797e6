"""Reader of a folder per class with a text per file."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from tasks.contract.findings import Findings
from usecases.nlp.sources import Item, Source
from usecases.reading.class_trees import find_classes, split_folders
from usecases.reading.encodings import guessed, marked_encoding
from usecases.reading.files import files_below, files_in, subfolders, walk
from usecases.reading.splits import splits_of_siblings

SUFFIXES = (".txt", ".text", ".htm", ".html", ".md", "")
UNLABELLED = ("unsup", "unlabeled", "unlabelled", "unsupervised")


def is_class_tree(root: Path) -> bool:
    return bool(split_folders(root, _has_classes)) or _has_classes(root)


def _has_classes(folder: Path) -> bool:
    """Whether a folder has two or more folders of documents that are not named after splits: those would be data sets of their own."""
    classes = subfolders(folder)
    if len(classes) < 2 or splits_of_siblings(c.name for c in classes):
        return False
    return all(any(map(_is_document, walk(c))) and not _is_data_set(c) for c in classes)


def _is_document(path: Path) -> bool:
    return path.suffix.casefold() in SUFFIXES or path.suffix[1:].isdecimal()


def _is_data_set(folder: Path) -> bool:
    files = files_in(folder)
    return bool(files) and len(splits_of_siblings(p.stem for p in files)) * 2 >= len(files)


def read_tree(path: Path, root: Path, encoding: str, findings: Findings) -> Source:
    """Read every file in the folder of a class as a text of the class.

    Args:
        path: the folder that was given, to which the names of texts are relative.
        root: the folder of the classes, or of splits with classes.
        encoding: encoding of the files; empty: detected.
        findings: problems of the files are added to them.

    Returns:
        The texts with their labels.
    """
    reader = _Reader(encoding, findings)
    tree = find_classes(root, _has_classes)
    items = [item for folder, split in tree.parts for item in _classes(path, folder, split, reader, findings)]
    return Source(tree.layout, "classification", reader.finished(items), findings=findings)


def _classes(top: Path, folder: Path, split: str | None, reader: _Reader, findings: Findings) -> Iterator[Item]:
    for class_folder in subfolders(folder):
        if class_folder.name.casefold() in UNLABELLED:
            findings.note("folder of texts without labels", str(class_folder.relative_to(top)), "left out; --usecase.unlabelled uses it")
            continue
        found = False
        for path in files_below(class_folder):
            if not _is_document(path):
                findings.note("file that is not a text", str(path.relative_to(top)), "ignored")
                continue
            found = True
            yield Item(str(path.relative_to(top)), reader.text(path), (class_folder.name,), (), split)
        if not found:
            findings.note("empty class", str(class_folder.relative_to(top)), "left out")


class _Reader:
    """Reads small files. The encoding of those that are not UTF-8 is detected from all of them together, since each is too short."""

    def __init__(self, encoding: str, findings: Findings) -> None:
        self.encoding, self.findings = encoding, findings
        self.old: dict[str, bytes] = {}

    def text(self, path: Path) -> str:
        data = path.read_bytes()
        marked = marked_encoding(data)
        try:
            return data.decode(self.encoding or marked or "utf-8").replace("\0", "")
        except UnicodeDecodeError:
            if self.encoding or marked:
                self.findings.note("unreadable characters", path.name, "replaced by \ufffd")
                return data.decode(self.encoding or marked or "", errors="replace")
        key = f"\0{len(self.old)}"
        self.old[key] = data
        return key

    def finished(self, items: list[Item]) -> list[Item]:
        """The items, with the texts whose encoding could be detected only after all files."""
        if not self.old:
            return items
        encoding = guessed(line for data in self.old.values() for line in data.splitlines())
        self.findings.note(
            "file in another encoding than UTF-8", f"read as {encoding}", "set --usecase.encoding if it is another", len(self.old)
        )
        decode = codecs.getdecoder(encoding)
        return [
            Item(i.name, decode(self.old[i.text], "replace")[0], i.labels, (), i.split) if i.text.startswith("\0") else i for i in items
        ]
