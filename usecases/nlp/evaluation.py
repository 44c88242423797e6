"""How good a model is at the texts of a split, judged by what a server would answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tasks.contract.statistics import Statistics, mean_of
from tasks.contract.types import Predict, Split
from usecases.nlp.codec import ClassCodec, EntityCodec, Found
from usecases.nlp.scores import classification_scores, decided, entity_scores, hit
from usecases.nlp.texts import Texts
from usecases.nlp.windows import MaskedTexts, true_labels

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

BATCH = 64
MAX_WINDOWS = 20_000  # of hidden tokens


def evaluate_classes(predict: Predict, codec: ClassCodec, folder: Path, split: Split) -> dict[str, float]:
    """See `classification_scores`."""
    probabilities = probabilities_of(predict, codec, Texts(folder / split))
    return classification_scores(probabilities, true_labels(folder, split, tuple(codec.labels)), codec.multi, codec.labels)


def evaluate_entities(predict: Predict, codec: EntityCodec, folder: Path, split: Split) -> dict[str, float]:
    """See `entity_scores`."""
    texts = Texts(folder / split)
    found = [[span for span, _ in one] for one in entities_of(predict, codec, texts)]
    return entity_scores(found, texts.spans(range(len(texts))))


def class_statistics(predict: Predict, codec: ClassCodec, folder: Path, split: Split) -> Statistics:
    """Of accuracy."""
    right = true_labels(folder, split, tuple(codec.labels))
    return Statistics(
        hit(decided(probabilities_of(predict, codec, Texts(folder / split)), codec.multi), right, codec.multi)[:, None], mean_of
    )


def entity_statistics(predict: Predict, codec: EntityCodec, folder: Path, split: Split) -> Statistics:
    """Of entity_f1: of each text the entities that were found and are right, found, and right."""
    texts = Texts(folder / split)
    found = [{span for span, _ in one} for one in entities_of(predict, codec, texts)]
    right = [set(spans) for spans in texts.spans(range(len(texts)))]
    counts = [(len(said & true), len(said), len(true)) for said, true in zip(found, right, strict=True)]
    return Statistics(np.array(counts, dtype=np.float64), f1_of)


def f1_of(means: np.ndarray) -> np.ndarray:
    """F1 of hits, found and right, [..., 3]."""
    both = means[..., 1] + means[..., 2]
    return np.divide(2 * means[..., 0], both, out=np.zeros_like(both), where=both > 0)


def probabilities_of(predict: Predict, codec: ClassCodec, texts: Texts) -> np.ndarray:
    """[N, C]"""
    found = np.zeros((len(texts), len(codec.labels)))
    for rows, given in _by_length(texts):
        found[rows] = codec.likely(predict(codec.encode(given)), given)
    return found


def entities_of(predict: Predict, codec: EntityCodec, texts: Texts) -> list[Found]:
    found: list[Found] = [[] for _ in range(len(texts))]
    for rows, given in _by_length(texts):
        for row, entities in zip(rows, codec.found(predict(codec.encode(given)), given), strict=True):
            found[row] = entities
    return found


def _by_length(texts: Texts) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Texts of similar length together: little of a batch is padding."""
    every = texts.texts(range(len(texts)))
    order = np.argsort([len(text) for text in every], kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        yield rows, [every[row] for row in rows]


def evaluate_masked_tokens(predict: Predict, settings: TextSettings, folder: Path, split: Split) -> dict[str, float]:
    """masked_accuracy: the share of hidden tokens that are guessed right."""
    windows = MaskedTexts(settings, folder, split)
    rows = np.linspace(0, len(windows) - 1, min(len(windows), MAX_WINDOWS)).astype(np.int64)
    order = rows[np.argsort(windows.lengths[rows], kind="stable")]
    right = asked = 0
    for start in range(0, len(order), BATCH):
        seen, hidden = windows.hidden(order[start : start + BATCH])
        guessed = cast(np.ndarray, predict({"tokens": seen})["token"])
        right += int(((guessed == hidden) & (hidden >= 0)).sum())
        asked += int((hidden >= 0).sum())
    return {"masked_accuracy": right / max(asked, 1)}
