"""Which words drove an answer, asked of any model by leaving words out; NumPy only: it runs in the server."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from tasks.usecase import Codec, Predict
from usecases.nlp.codec import ClassCodec, EntityCodec, text_of
from usecases.nlp.ngrams import places_of

SAMPLES = 256  # perturbed texts
BATCH = 32
MOST_WORDS = 200  # that are told apart; the rest of a longer text stays as it is
KERNEL = 0.25  # width of LIME's kernel, in cosine distance
RIDGE = 1.0


def explain_class(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """`{"label", "words": [{"text", "start", "end", "weight"}, ...]}`: what each word does for the label, by LIME (Ribeiro 2016)."""
    known = cast(ClassCodec, codec)
    text = text_of(1, request)
    likely = known.likely(predict(known.encode([text])), [text])[0]
    label = int(likely.argmax())
    places, weights = class_weights(predict, known, text, label)
    return {"label": known.labels[label], "method": "LIME", "words": _told(text, places, weights)}


def class_weights(predict: Predict, codec: ClassCodec, text: str, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the words are, [W, 2], and the weight of each for a label, [W]: a linear model of the answer in which words are there."""
    places = places_of(text)[:MOST_WORDS]
    if len(places) < 2:
        return places, np.zeros(len(places))
    there = _left_out(len(places))
    texts = [_without(text, places[~row]) for row in there]
    likely = np.concatenate(
        [codec.likely(predict(codec.encode(part)), part)[:, label] for part in (texts[i : i + BATCH] for i in range(0, len(texts), BATCH))]
    )
    distance = 1 - np.sqrt(there.mean(axis=1))
    near = np.exp(-np.square(distance / KERNEL))
    return places, _ridge(there.astype(np.float64), likely, near)


def explain_entities(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """`{"entities": [{..., "words": [...]}, ...]}`: how much less likely each entity becomes without each word around it."""
    known = cast(EntityCodec, codec)
    text = text_of(1, request)
    found = known.found(predict(known.encode([text])), [text])[0]
    places = places_of(text)[:MOST_WORDS]
    masked = [text[:start] + "_" * (end - start) + text[end:] for start, end in places]
    parts = (masked[i : i + BATCH] for i in range(0, len(masked), BATCH))
    others = [entities for part in parts for entities in known.found(predict(known.encode(part)), part)]
    told = []
    for span, probability in found:
        left = np.array([max((p for s, p in entities if s == span), default=0.0) for entities in others])
        told.append({"text": text[span.start : span.end], "label": span.label, "words": _told(text, places, probability - left)})
    return {"method": "words hidden one by one", "entities": told}


def _left_out(count: int) -> np.ndarray:
    """Which words are there, bool [SAMPLES, W]; the first row has all. The same for the same number of words."""
    random = np.random.default_rng(count)
    there = np.ones((SAMPLES, count), dtype=bool)
    for row in there[1:]:
        row[random.choice(count, random.integers(1, count), replace=False)] = False
    return there


def _without(text: str, places: np.ndarray) -> str:
    parts, at = [], 0
    for start, end in places:
        parts.append(text[at:start])
        at = end
    return "".join([*parts, text[at:]])


def _ridge(there: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The coefficients of a weighted ridge regression with an intercept."""
    share = weights / weights.sum()
    x, y = there - share @ there, values - share @ values
    weighted = x * weights[:, None]
    return np.linalg.solve(weighted.T @ x + RIDGE * np.eye(x.shape[1]), weighted.T @ y)


def _told(text: str, places: np.ndarray, weights: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"text": text[start:end], "start": int(start), "end": int(end), "weight": round(float(weight), 6)}
        for (start, end), weight in zip(places, weights, strict=True)
    ]
