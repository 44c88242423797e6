"""Which words drove an answer, asked of any model by hiding words; it runs in the server, without torch."""

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
MAX_WORDS = 200  # that are told apart; the rest of a longer text stays as it is
METHOD = "SHAP"


def explain_class(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """`{"label", "method", "words": [{"text", "start", "end", "weight"}, ...]}`: how much each word adds to the label's probability.

    Raises:
        BundleError: the package shap is not installed.
    """
    known = cast(ClassCodec, codec)
    text = text_of(1, request)
    likely = known.likely(predict(known.encode([text])), [text])[0]
    label = int(likely.argmax())
    places, weights = class_weights(predict, known, text, label)
    return {"label": known.labels[label], "method": METHOD, "words": _told(text, places, weights)}


def class_weights(predict: Predict, codec: ClassCodec, text: str, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the words are, [W, 2], and the Shapley value of each for the probability of a label, [W]; hidden words are left out."""
    places = places_of(text)[:MAX_WORDS]

    def likely(there: np.ndarray) -> np.ndarray:
        texts = [_without(text, places[~row]) for row in there]
        return codec.likely(predict(codec.encode(texts)), texts)[:, [label]]

    return places, shapley(likely, len(places))[:, 0]


def explain_entities(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """`{"method", "entities": [{"text", "label", "words": [...]}, ...]}`: how much each word adds to the probability of each entity.

    Raises:
        BundleError: the package shap is not installed.
    """
    known = cast(EntityCodec, codec)
    text = text_of(1, request)
    spans = [span for span, _ in known.found(predict(known.encode([text])), [text])[0]]
    places = places_of(text)[:MAX_WORDS]

    def likely(there: np.ndarray) -> np.ndarray:
        texts = [_blanked(text, places[~row]) for row in there]
        found = [dict(entities) for entities in known.found(predict(known.encode(texts)), texts)]
        return np.array([[entities.get(span, 0.0) for span in spans] for entities in found])

    weights = shapley(likely, len(places)) if spans else np.zeros((len(places), 0))
    told = [
        {"text": text[span.start : span.end], "label": span.label, "words": _told(text, places, weights[:, column])}
        for column, span in enumerate(spans)
    ]
    return {"method": METHOD, "entities": told}


def shapley(answer: Callable[[np.ndarray], np.ndarray], count: int) -> np.ndarray:
    """How much each of `count` parts adds to each answer, [count, K]: Shapley values (Lundberg 2017), the same at every call.

    They add up to the answer with all parts minus the answer with none. An estimate over permutations of the parts, forth
    and back (Castro 2009); of few parts exact but for repetitions.

    Args:
        answer: which parts are there, bool [N, count], to answers [N, K].
        count: of the parts.

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
        there = rows > 0.5
        return np.concatenate([answer(there[i : i + BATCH]) for i in range(0, len(there), BATCH)])

    with _own_randomness():
        explainer = Permutation(of_rows, np.zeros((1, count)), seed=0)
        found = cast(Any, explainer(np.ones((1, count)), max_evals=max(EVALUATIONS, 2 * count + 1), silent=True))
    return np.asarray(found.values).reshape(count, -1)


@contextmanager
def _own_randomness() -> Iterator[None]:
    """shap draws from NumPy's global generator, which is not its own."""
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


def _blanked(text: str, places: np.ndarray) -> str:
    """Of the same length, so that what is found in it can be compared."""
    for start, end in places:
        text = text[:start] + "_" * (end - start) + text[end:]
    return text


def _told(text: str, places: np.ndarray, weights: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"text": text[start:end], "start": int(start), "end": int(end), "weight": round(float(weight), 6)}
        for (start, end), weight in zip(places, weights, strict=True)
    ]
