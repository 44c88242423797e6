"""Explanations of answers: Shapley values of the words, for any model. They run in the server, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from tasks.contract.codec import Codec
from tasks.contract.errors import BundleError
from tasks.contract.types import Predict
from usecases.nlp.codec import ClassCodec, EntityCodec, text_of
from usecases.nlp.ngrams import places_of

EVALUATIONS = 512  # perturbed texts at most
BATCH = 32
MAX_WORDS = 200  # words that get a weight; the rest of a longer text is never masked
METHOD = "SHAP"


def explain_class(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """Explain the most probable label of a text by how much each word adds to its probability.

    Args:
        predict: the model.
        codec: its codec, a `ClassCodec`.
        request: a text, or `{"text": ...}`.

    Returns:
        `{"label", "method", "words": [{"text", "start", "end", "weight"}, ...]}`.

    Raises:
        BundleError: the package shap is not installed.
    """
    class_codec = cast(ClassCodec, codec)
    text = text_of(1, request)
    probabilities = class_codec.probabilities(predict(class_codec.encode([text])), [text])[0]
    label = int(probabilities.argmax())
    places, weights = class_weights(predict, class_codec, text, label)
    return {"label": class_codec.labels[label], "method": METHOD, "words": _weighted_words(text, places, weights)}


def class_weights(predict: Predict, codec: ClassCodec, text: str, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values of the words of a text for the probability of a label; a masked word is removed from the text.

    Args:
        predict: the model.
        codec: its codec.
        text: the text.
        label: index of the label.

    Returns:
        The character offsets of the words, [W, 2], and their Shapley values, [W].
    """
    places = places_of(text)[:MAX_WORDS]

    def probability(present: np.ndarray) -> np.ndarray:
        texts = [_without(text, places[~row]) for row in present]
        return codec.probabilities(predict(codec.encode(texts)), texts)[:, [label]]

    return places, shapley(probability, len(places))[:, 0]


def explain_entities(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """Explain the entities of a text by how much each word adds to the probability of each entity.

    Args:
        predict: the model.
        codec: its codec, an `EntityCodec`.
        request: a text, or `{"text": ...}`.

    Returns:
        `{"method", "entities": [{"text", "label", "words": [{"text", "start", "end", "weight"}, ...]}, ...]}`.

    Raises:
        BundleError: the package shap is not installed.
    """
    entity_codec = cast(EntityCodec, codec)
    text = text_of(1, request)
    spans = [span for span, _ in entity_codec.entities(predict(entity_codec.encode([text])), [text])[0]]
    places = places_of(text)[:MAX_WORDS]

    def probability(present: np.ndarray) -> np.ndarray:
        texts = [_masked(text, places[~row]) for row in present]
        found = [dict(entities) for entities in entity_codec.entities(predict(entity_codec.encode(texts)), texts)]
        return np.array([[entities.get(span, 0.0) for span in spans] for entities in found])

    weights = shapley(probability, len(places)) if spans else np.zeros((len(places), 0))
    explained = [
        {"text": text[span.start : span.end], "label": span.label, "words": _weighted_words(text, places, weights[:, column])}
        for column, span in enumerate(spans)
    ]
    return {"method": METHOD, "entities": explained}


def shapley(answer: Callable[[np.ndarray], np.ndarray], count: int) -> np.ndarray:
    """Shapley values of the parts of an input (Lundberg 2017), estimated over permutations of the parts (Castro 2009).

    They are the same at every call, and they add up to the answer with all parts minus the answer without any.

    Args:
        answer: maps which parts are present, bool [N, count], to answers, [N, K].
        count: number of parts.

    Returns:
        How much each part adds to each answer, [count, K].

    Raises:
        BundleError: the package shap is not installed.
    """
    if not count:
        return np.zeros((0, answer(np.ones((1, 0), dtype=bool)).shape[1]))
    try:
        from shap.explainers import Permutation
    except ImportError:
        raise BundleError("Explaining needs the package shap where the model is served: pip install shap") from None

    def of_rows(rows: np.ndarray) -> np.ndarray:
        present = rows > 0.5
        return np.concatenate([answer(present[i : i + BATCH]) for i in range(0, len(present), BATCH)])

    with _global_random_state_kept():
        explainer = Permutation(of_rows, np.zeros((1, count)), seed=0)
        found = cast(Any, explainer(np.ones((1, count)), max_evals=max(EVALUATIONS, 2 * count + 1), silent=True))
    return np.asarray(found.values).reshape(count, -1)


@contextmanager
def _global_random_state_kept() -> Iterator[None]:
    """Restore NumPy's global random state, which shap changes."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


def _without(text: str, places: np.ndarray) -> str:
    parts, at = [], 0
    for start, end in places:
        parts.append(text[at:start])
        at = end
    return "".join([*parts, text[at:]])


def _masked(text: str, places: np.ndarray) -> str:
    """The text with some words masked, of the same length, so that the offsets of its entities can be compared."""
    for start, end in places:
        text = text[:start] + "_" * (end - start) + text[end:]
    return text


def _weighted_words(text: str, places: np.ndarray, weights: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"text": text[start:end], "start": int(start), "end": int(end), "weight": round(float(weight), 6)}
        for (start, end), weight in zip(places, weights, strict=True)
    ]
