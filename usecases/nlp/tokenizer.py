"""Tokens of texts, and windows of tokens. `tokenizers` and NumPy only, since it runs in the server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Tokens:
    """The tokens of one text, without begin and end tokens.

    numbers, int32 [n]: token ids; first, bool [n]: the token is the first of its word; words, int32 [n, 2]: start and end, exclusive, of
    the token's word in characters.
    """

    numbers: np.ndarray
    first: np.ndarray
    words: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)


class Window(NamedTuple):
    """A window of a text's tokens, which the network reads at once: tokens `start` to `stop`, exclusive, of text number `text`."""

    text: int
    start: int
    stop: int


class TextTokenizer:
    """The tokenizer of a data set, loaded from its assets."""

    def __init__(self, assets: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(assets / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        card = json.loads((assets / "tokens.json").read_text(encoding="utf-8"))
        self.begin, self.end, self.padding, self.mask = (int(card[name]) for name in ("begin", "end", "padding", "mask"))
        self.size = int(card["size"])

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text."""
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [_tokens(text, found.ids, found.offsets, found.word_ids) for text, found in zip(texts, encodings, strict=True)]

    def batch(self, tokens: Sequence[np.ndarray], step: int = 1) -> np.ndarray:
        """Pad windows of tokens, int [n] each, to a batch int64 [B, L], with begin and end tokens and padding on the right.

        L is the length of the longest window, rounded up to a multiple of `step`.
        """
        longest = max((len(row) for row in tokens), default=0) + 2
        batch = np.full((len(tokens), -(-longest // step) * step), self.padding, dtype=np.int64)
        batch[:, 0] = self.begin
        for row, numbers in zip(batch, tokens, strict=True):
            row[1 : len(numbers) + 1] = numbers
            row[len(numbers) + 1] = self.end
        return batch


def write_card(assets: Path, tokenizer: Tokenizer, marks: dict[str, int]) -> None:
    """Write `tokens.json`, which `TextTokenizer` reads in addition to the tokenizer.

    Args:
        assets: folder of the assets.
        tokenizer: the tokenizer.
        marks: ids of the tokens begin, end, padding and mask.
    """
    size = max(tokenizer.get_vocab_size(with_added_tokens=True), max(marks.values()) + 1)
    (assets / "tokens.json").write_text(json.dumps({**marks, "size": size}), encoding="utf-8")


def _tokens(text: str, numbers: list[int], offsets: list[tuple[int, int]], words: list[int | None]) -> Tokens:
    place = np.array([_trimmed(text, *offset) for offset in offsets], dtype=np.int32).reshape(-1, 2)
    word = np.array([-1 if number is None else number for number in words], dtype=np.int32)
    first = np.ones(len(word), dtype=bool)
    first[1:] = (word[1:] != word[:-1]) | (word[1:] < 0)
    number = np.cumsum(first) - 1
    starts = place[first, 0]
    ends = np.zeros(len(starts), dtype=np.int32)
    np.maximum.at(ends, number, place[:, 1])
    return Tokens(np.array(numbers, dtype=np.int32), first, np.stack([starts[number], ends[number]], 1) if len(word) else place)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The offsets without leading white space, which byte-level tokenizers count as part of a word."""
    while start < end and text[start].isspace():
        start += 1
    return start, end


def text_windows(settings: TextSettings, counts: Iterable[int]) -> list[Window]:
    """The windows over texts with these numbers of tokens; neighbours overlap by a quarter. They are the same in training and serving."""
    room = settings.length - 2  # without the begin and end tokens
    used = (min(int(count), room) if settings.long == "truncate" else int(count) for count in counts)
    return [window for text, count in enumerate(used) for window in windows_of(count, room, room // 4, text)]


def windows_of(count: int, room: int, overlap: int, text: int = 0) -> list[Window]:
    """The windows over one text.

    Args:
        count: number of tokens of the text.
        room: largest number of tokens of a window.
        overlap: number of tokens that neighbouring windows share at least.
        text: number of the text.

    Returns:
        The windows in order; an empty text has one empty window.
    """
    if count <= room:
        return [Window(text, 0, count)]
    starts = range(0, count - overlap, room - overlap)
    return [Window(text, min(start, count - room), min(start, count - room) + room) for start in starts]


def merged(count: int, windows: Sequence[Window], values: Sequence[np.ndarray]) -> np.ndarray:
    """Merge values per token of windows into those of the whole text.

    Where windows overlap, the values of a token come from the window in which it has the most context on both sides.

    Args:
        count: number of tokens of the text.
        windows: windows of the text.
        values: values of the tokens of each window, [n, T].

    Returns:
        Values of the tokens of the text, [count, T].
    """
    found = np.zeros((count, values[0].shape[1]), dtype=values[0].dtype)
    inner = np.full(count, -1)
    for window, value in zip(windows, values, strict=True):
        place = np.arange(window.stop - window.start)
        depth = np.minimum(place, place[::-1])
        better = depth > inner[window.start : window.stop]
        found[window.start : window.stop][better] = value[better]
        inner[window.start : window.stop][better] = depth[better]
    return found
