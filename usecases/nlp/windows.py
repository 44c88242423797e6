"""Batches of prepared texts: padded windows of tokens with their labels or tags."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.types import Arrays, Split
from usecases.nlp.texts import Texts
from usecases.nlp.tokenizer import TextTokenizer, text_windows

if TYPE_CHECKING:
    from usecases.nlp import TextSettings
    from usecases.nlp.codec import TextCodec

MASKED, NO_TAG = 0.15, -1
LENGTH_STEP = 8  # lengths of training batches are multiples of it, since CPU kernels are compiled for each shape


class Windows:
    """Windows of the texts of one split: tokens, int64 [B, L]."""

    def __init__(self, settings: TextSettings, folder: Path, parts: tuple[str, ...]) -> None:
        self.tokenizer, self.length = read_tokenizer(folder / "assets"), settings.length
        self.tokens = [np.load(folder / part / "tokens.npy", mmap_mode="r") for part in parts]
        self.starts = [np.load(folder / part / "starts.npy") for part in parts]
        rows = [(part, *window) for part, starts in enumerate(self.starts) for window in text_windows(settings, np.diff(starts))]
        self.rows = np.array(rows, dtype=np.int64).reshape(-1, 4)  # part, text, start, stop
        self.lengths = self.rows[:, 3] - self.rows[:, 2]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Arrays:
        found = self.tokenizer.batch([self.of(self.tokens, row) for row in self.rows[indices]], LENGTH_STEP)
        return {"tokens": found[:, : self.length]}

    def of(self, arrays: list[np.ndarray], row: np.ndarray) -> np.ndarray:
        """The values of the tokens of a window, from arrays with a value per token."""
        part, text, start, stop = row
        offset = self.starts[part][text]
        return arrays[part][offset + start : offset + stop]


class LabelledTexts(Windows):
    """Windows with the classes of their text: label, int64 [B], or bool [B, C] if a text may have several."""

    def __init__(self, settings: TextSettings, folder: Path, split: Split) -> None:
        super().__init__(settings, folder, (split,))
        card = read_labels(folder / "assets")
        self.multi = bool(card["multi"])
        self.target = true_labels(folder, split, tuple(card["labels"]))

    def batch(self, indices: np.ndarray) -> Arrays:
        target = self.target[self.rows[indices, 1]]
        return {**super().batch(indices), "label": target if self.multi else target.argmax(1)}


class TaggedTexts(Windows):
    """Windows with tags, int64 [B, L]: -1 where no word begins."""

    def __init__(self, settings: TextSettings, folder: Path, split: Split) -> None:
        super().__init__(settings, folder, (split,))
        self.tags = [np.load(folder / split / "tags.npy", mmap_mode="r")]

    def batch(self, indices: np.ndarray) -> Arrays:
        tokens = super().batch(indices)["tokens"]
        tags = np.full(tokens.shape, NO_TAG, dtype=np.int64)
        for row, window in zip(tags, self.rows[indices], strict=True):
            found = self.of(self.tags, window)
            row[1 : len(found) + 1] = found
        return {"tokens": tokens, "tags": tags}


class Encoded:
    """The texts of a split, encoded by a codec: the inputs of a baseline."""

    def __init__(self, codec: TextCodec, folder: Path, split: Split) -> None:
        self.codec, self.texts = codec, Texts(folder / split)

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, indices: np.ndarray) -> Arrays:
        return self.codec.encode(self.texts.texts(indices))


class MaskedTexts(Windows):
    """Windows for masked language modelling; for evaluation the same tokens are masked every time."""

    def __init__(self, settings: TextSettings, folder: Path, split: Split) -> None:
        more = (folder / "unlabelled" / "starts.npy").exists() and split == "train"
        super().__init__(settings, folder, (split, "unlabelled") if more else (split,))

    def masked(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of which 15 % are masked, and the target tokens, -1 where none is masked; int64 [B, L]."""
        tokens = self.batch(indices)["tokens"]
        drawn = np.random.default_rng(indices).random(tokens.shape) < MASKED
        drawn &= ~np.isin(tokens, (self.tokenizer.padding, self.tokenizer.begin, self.tokenizer.end))
        return np.where(drawn, self.tokenizer.mask, tokens), np.where(drawn, tokens, NO_TAG)


def to_length(inputs: Arrays, settings: TextSettings, folder: Path) -> Arrays:
    """Truncate or pad tokens to the maximum sequence length.

    Args:
        inputs: `tokens`, int64 [B, L].
        settings: settings with the maximum sequence length.
        folder: the prepared data set.

    Returns:
        `tokens`, int64 [B, length].
    """
    tokens = inputs["tokens"][:, : settings.length]
    missing = settings.length - tokens.shape[1]
    return {"tokens": np.pad(tokens, ((0, 0), (0, missing)), constant_values=read_tokenizer(folder / "assets").padding)}


def true_labels(folder: Path, split: str, labels: tuple[str, ...]) -> np.ndarray:
    """The true labels of a split.

    Args:
        folder: the prepared data set.
        split: name of the split.
        labels: names of all labels, [C].

    Returns:
        bool [N, C].
    """
    texts, number = Texts(folder / split), {label: column for column, label in enumerate(labels)}
    target = np.zeros((len(texts), len(labels)), dtype=bool)
    for row, given in enumerate(texts.labels(range(len(texts)))):
        target[row, [number[label] for label in given if label in number]] = True
    return target


@lru_cache(maxsize=4)
def read_tokenizer(assets: Path) -> TextTokenizer:
    return TextTokenizer(assets)


@lru_cache(maxsize=4)
def read_labels(assets: Path) -> dict[str, Any]:
    """The content of `labels.json`: task, labels, and whether a text may have several."""
    return json.loads((assets / "labels.json").read_text(encoding="utf-8"))
