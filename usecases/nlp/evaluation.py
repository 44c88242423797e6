"""Evaluation of a model on the texts of a split, on the answers that a server would give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tasks.contract.statistics import Statistics, mean_of
from tasks.contract.types import Predict, Split
from usecases.nlp.codec import ClassCodec, Entities, EntityCodec
from usecases.nlp.scores import classification_scores, correct, entity_scores, predicted_labels
from usecases.nlp.texts import Texts
from usecases.nlp.windows import MaskedTexts, true_labels

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

BATCH = 64
MAX_WINDOWS = 20_000  # on which masked language modelling is evaluated


def evaluate_classes(predict: Predict, codec: ClassCodec, folder: Path, split: Split) -> dict[str, float]:
    """Evaluate a classifier.

    Args:
        predict: the model.
        codec: its codec.
        folder: the prepared data set.
        split: the split to evaluate on.

    Returns:
        The scores of `classification_scores`.
    """
    probabilities = probabilities_of(predict, codec, Texts(folder / split))
    return classification_scores(probabilities, true_labels(folder, split, tuple(codec.labels)), codec.multi, codec.labels)


def evaluate_entities(predict: Predict, codec: EntityCodec, folder: Path, split: Split) -> dict[str, float]:
    """Evaluate a tagger.

    Args:
        predict: the model.
        codec: its codec.
        folder: the prepared data set.
        split: the split to evaluate on.

    Returns:
        The scores of `entity_scores`.
    """
    texts = Texts(folder / split)
    found = [[span for span, _ in one] for one in entities_of(predict, codec, texts)]
    return entity_scores(found, texts.spans(range(len(texts))))


def class_statistics(predict: Predict, codec: ClassCodec, folder: Path, split: Split) -> Statistics:
    """Per-example statistics of the accuracy.

    Args:
        predict: the model.
        codec: its codec.
        folder: the prepared data set.
        split: the split to evaluate on.

    Returns:
        Whether the labels of each text are correct.
    """
    target = true_labels(folder, split, tuple(codec.labels))
    predicted = predicted_labels(probabilities_of(predict, codec, Texts(folder / split)), codec.multi)
    return Statistics(correct(predicted, target, codec.multi)[:, None], mean_of)


def entity_statistics(predict: Predict, codec: EntityCodec, folder: Path, split: Split) -> Statistics:
    """Per-example statistics of entity_f1.

    Args:
        predict: the model.
        codec: its codec.
        folder: the prepared data set.
        split: the split to evaluate on.

    Returns:
        For each text the numbers of true positives, of predicted entities and of true entities.
    """
    texts = Texts(folder / split)
    found = [{span for span, _ in one} for one in entities_of(predict, codec, texts)]
    target = [set(spans) for spans in texts.spans(range(len(texts)))]
    counts = [(len(predicted & true), len(predicted), len(true)) for predicted, true in zip(found, target, strict=True)]
    return Statistics(np.array(counts, dtype=np.float64), f1_of)


def f1_of(means: np.ndarray) -> np.ndarray:
    """F1 from the means of true positives, predicted and true entities, [..., 3]."""
    both = means[..., 1] + means[..., 2]
    return np.divide(2 * means[..., 0], both, out=np.zeros_like(both), where=both > 0)


def probabilities_of(predict: Predict, codec: ClassCodec, texts: Texts) -> np.ndarray:
    """Predict the classes of texts.

    Args:
        predict: the model.
        codec: its codec.
        texts: the texts.

    Returns:
        Probabilities of the classes, [N, C].
    """
    found = np.zeros((len(texts), len(codec.labels)))
    for rows, batch in _by_length(texts):
        found[rows] = codec.probabilities(predict(codec.encode(batch)), batch)
    return found


def entities_of(predict: Predict, codec: EntityCodec, texts: Texts) -> list[Entities]:
    """Predict the entities of texts.

    Args:
        predict: the model.
        codec: its codec.
        texts: the texts.

    Returns:
        The entities of each text.
    """
    found: list[Entities] = [[] for _ in range(len(texts))]
    for rows, batch in _by_length(texts):
        for row, entities in zip(rows, codec.entities(predict(codec.encode(batch)), batch), strict=True):
            found[row] = entities
    return found


def _by_length(texts: Texts) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Batches of texts of similar length, so that little of a batch is padding."""
    every = texts.texts(range(len(texts)))
    order = np.argsort([len(text) for text in every], kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        yield rows, [every[row] for row in rows]


def evaluate_masked_tokens(predict: Predict, settings: TextSettings, folder: Path, split: Split) -> dict[str, float]:
    """Evaluate masked language modelling.

    Args:
        predict: the model.
        settings: settings of the tokenizer and its windows.
        folder: the prepared data set.
        split: the split to evaluate on.

    Returns:
        `masked_accuracy`, the share of masked tokens that are predicted correctly.
    """
    windows = MaskedTexts(settings, folder, split)
    rows = np.linspace(0, len(windows) - 1, min(len(windows), MAX_WINDOWS)).astype(np.int64)
    order = rows[np.argsort(windows.lengths[rows], kind="stable")]
    hits = total = 0
    for start in range(0, len(order), BATCH):
        tokens, target = windows.masked(order[start : start + BATCH])
        predicted = cast(np.ndarray, predict({"tokens": tokens})["token"])
        hits += int(((predicted == target) & (target >= 0)).sum())
        total += int((target >= 0).sum())
    return {"masked_accuracy": hits / max(total, 1)}
