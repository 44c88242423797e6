"""Prepared texts on disk, one JSON object per line, with random access by the offsets of the lines."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usecases.nlp.sources import Item, Span

FILE, OFFSETS = "texts.jsonl", "offsets.npy"


def write_texts(folder: Path, items: Iterable[Item], entities: bool) -> None:
    """Write `texts.jsonl` with each text and its labels, or its spans as [start, end, label], and `offsets.npy` of the lines.

    Args:
        folder: folder of the split.
        items: the texts.
        entities: write spans instead of labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    offsets = [0]
    with (folder / FILE).open("wb") as file:
        for item in items:
            target = {"spans": [[s.start, s.end, s.label] for s in item.spans]} if entities else {"labels": list(item.labels)}
            offsets.append(offsets[-1] + file.write(_line({"name": item.name, "text": item.text, **target})))
    np.save(folder / OFFSETS, np.array(offsets, dtype=np.int64))


def _line(content: dict[str, Any]) -> bytes:
    # half a surrogate pair, which JSON may hold and UTF-8 may not, becomes a question mark of the same length
    return (json.dumps(content, ensure_ascii=False) + "\n").encode("utf-8", errors="replace")


class Texts:
    """One split of a prepared data set. Opening it reads only the offsets of the lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._offsets = np.load(folder / OFFSETS, mmap_mode="r")
        with (folder / FILE).open("rb") as file:
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __reduce__(self) -> tuple[type[Texts], tuple[Path]]:
        return Texts, (self.folder,)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def texts(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        return [self._read(i)["text"] for i in indices]

    def labels(self, indices: Sequence[int] | np.ndarray) -> list[list[str]]:
        """The classes of each text."""
        return [self._read(i)["labels"] for i in indices]

    def spans(self, indices: Sequence[int] | np.ndarray) -> list[list[Span]]:
        """The marked spans of each text, in order."""
        return [[Span(*span) for span in self._read(i)["spans"]] for i in indices]

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The place of each text in the original data, for messages and reports."""
        return [self._read(i)["name"] for i in indices]

    def _read(self, index: int) -> dict[str, Any]:
        return json.loads(self._lines[self._offsets[index] : self._offsets[index + 1]])
