"""Hashed features of texts and of words for linear models. NumPy only, since they run in the server.

A bundle needs no vocabulary: a feature is the number of a bucket, and 0 is the padding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from zlib import crc32

import numpy as np

from tasks.contract.types import Arrays
from usecases.nlp.words import words

BUCKETS = 2**20  # of the n-grams of a text, including the padding
MAX_CHARACTERS = 20_000  # of a text; the rest of a longer one is ignored
WORD_NGRAMS, CHARACTER_NGRAMS = 2, 4
CHARACTER, WORD = 0, 1


# -- texts ---------------------------------------------------------------------------------------------------------
def encode_ngrams(texts: Sequence[str]) -> Arrays:
    """The distinct n-grams of each text, `ngrams` int64 [B, K], and their `counts`, float32 [B, K]; padded with 0."""
    found = [Counter(_buckets(text[:MAX_CHARACTERS])) for text in texts]
    longest = max((len(counter) for counter in found), default=0)
    ngrams = np.zeros((len(found), max(longest, 1)), dtype=np.int64)
    counts = np.zeros(ngrams.shape, dtype=np.float32)
    for row, counter in enumerate(found):
        ngrams[row, : len(counter)] = list(counter)
        counts[row, : len(counter)] = list(counter.values())
    return {"ngrams": ngrams, "counts": counts}


def _buckets(text: str) -> Iterator[int]:
    """The bucket of each word 1-2-gram, for scripts with spaces, and of each character 1-4-gram, for the others."""
    text = text.lower()
    split = [text[start:end] for start, end in words(text)]
    squeezed = f" {' '.join(text.split())} "
    for size in range(1, WORD_NGRAMS + 1):
        for place in range(len(split) - size + 1):
            yield _bucket(" ".join(split[place : place + size]), WORD)
    for size in range(1, CHARACTER_NGRAMS + 1):
        for place in range(len(squeezed) - size + 1):
            yield _bucket(squeezed[place : place + size], CHARACTER)


def _bucket(feature: str, kind: int) -> int:
    """The bucket of a feature: odd for words, even for characters, so that a model can weight the two kinds separately."""
    half = crc32(feature.encode("utf-8", "surrogatepass"), kind) % (BUCKETS // 2 - 1)
    return 2 * half + 2 + kind


# -- words ---------------------------------------------------------------------------------------------------------
WORD_BUCKETS = 2**22  # of the features of words, of which there are many more than n-grams
MAX_FORM_CHARACTERS = 8  # of a form such as Xxxxx for Paris or 9999 for a year; a longer one is truncated
AFFIX = 5  # characters of the longest prefix and suffix
PARTS = ("exact", "lower", "form", "shape", "case", *(f"{end}{size}" for end in "ps" for size in range(1, AFFIX + 1)))
CONTEXTS = (  # the parts of each feature, each with the position of its word relative to this one
    *(((part, 0),) for part in PARTS),
    *((("lower", place),) for place in (-2, -1, 1, 2)),
    *((("lower", place), ("lower", place + 1)) for place in (-2, -1, 0, 1)),
    *((("lower", place), ("lower", place + 1), ("lower", place + 2)) for place in (-2, -1, 0)),
    (("lower", -1), ("lower", 1)),
    *(((part, place),) for place in (-1, 1) for part in ("form", "shape", "p3", "s2", "s3")),
    *(((part, place), (part, place + 1)) for place in (-1, 0) for part in ("case", "s3")),
    (("p3", -1), ("p3", 0)),
    (("case", -1), ("case", 0), ("case", 1)),
)
FEATURES = len(CONTEXTS)
REACH = 2  # words to either side
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio: spreads what is multiplied by it over all bits


def encode_features(texts: Sequence[str]) -> tuple[Arrays, list[np.ndarray]]:
    """The `features` of the words of each text, int64 [B, L, F], padded with 0; and the words' character offsets, int64 [L, 2] each."""
    offsets = [places_of(text) for text in texts]
    features = np.zeros((len(texts), max((len(places) for places in offsets), default=0) or 1, FEATURES), dtype=np.int64)
    for row, (text, places) in enumerate(zip(texts, offsets, strict=True)):
        features[row, : len(places)] = word_features([text[start:end] for start, end in places])
    return {"features": features}, offsets


def places_of(text: str) -> np.ndarray:
    """Start and end, exclusive, of the words of a text in characters, int64 [L, 2]."""
    return np.array(words(text), dtype=np.int64).reshape(-1, 2)


def word_features(tokens: Sequence[str]) -> np.ndarray:
    """The features of the words of one text, int64 [L, F], as linear taggers use them (Ratinov 2009); 0 is no feature."""
    parts = np.array([_parts(token) for token in tokens], dtype=np.uint64).reshape(-1, len(PARTS))
    wide = np.pad(parts, ((REACH, REACH), (0, 0)), constant_values=1)  # 1: beyond the text
    columns = np.empty((len(tokens), FEATURES), dtype=np.int64)
    for number, context in enumerate(CONTEXTS):
        mixed = np.full(len(tokens), number + 1, dtype=np.uint64)
        absent = np.zeros(len(tokens), dtype=bool)
        for part, place in context:
            hashes = wide[REACH + place : REACH + place + len(tokens), PARTS.index(part)]
            absent |= hashes == 0
            mixed = (mixed ^ hashes) * MIX
            mixed ^= mixed >> np.uint64(29)
        columns[:, number] = np.where(absent, 0, 1 + mixed % np.uint64(WORD_BUCKETS - 1))
    return columns


def _parts(token: str) -> list[int]:
    """A hash of each of `PARTS`, 0 for a part that the word does not have, such as a prefix as long as the word."""
    lower = token.lower()
    form = "".join("9" if c.isdigit() else "X" if c.isupper() else "x" if c.islower() else "c" if c.isalpha() else c for c in token)
    shape = "".join(kind for kind, _ in groupby(form))
    sizes = range(1, AFFIX + 1)
    affixes = [lower[:size] if size < len(lower) else "" for size in sizes] + [lower[-size:] if size < len(lower) else "" for size in sizes]
    return [_hash(part) if part else 0 for part in (token, lower, form[:MAX_FORM_CHARACTERS], shape, _case(token), *affixes)]


def _hash(part: str) -> int:
    return 2 + crc32(part.encode("utf-8", "surrogatepass"))


def _case(token: str) -> str:
    if not token[0].isalpha():
        return "digit" if token.isdigit() else "sign"
    return "upper" if token.isupper() else "title" if token.istitle() else "lower" if token.islower() else "other"
