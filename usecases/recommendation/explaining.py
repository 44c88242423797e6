"""Which past events drove a recommendation: what its score loses without each of them. NumPy only: it runs in the server."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from tasks.contract.codec import Codec
from tasks.contract.types import Arrays, Predict
from usecases.recommendation.codec import HistoryCodec

LATEST = 10  # events that are looked at


def explain(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """`{"item", "because": [{"item", "title", "lost"}, ...]}` of the first recommendation, latest event first."""
    known = cast(HistoryCodec, codec)
    inputs = known.encode([request])
    best = int(predict(inputs)["item"][0, 0])
    found = drivers(predict, inputs, best)
    return {
        **known.named(best),
        "because": [{**known.named(item), "lost": round(lost, 6)} for item, lost in found],
    }


def drivers(predict: Predict, inputs: Arrays, item: int) -> list[tuple[int, float]]:
    """Leave-one-out: the latest events of one history, each with what `item` loses in score without it."""
    history = inputs["history"][0]
    places = np.flatnonzero(history)[::-1][:LATEST]
    if not len(places):
        return []
    left = np.stack([history, *(_without(history, place) for place in places)])
    only = np.zeros((len(left), inputs["allowed"].shape[1]), dtype=bool)
    only[:, item - 1] = True
    score = predict({"history": left, "allowed": only})["score"][:, 0]
    return [(int(history[place]), max(float(score[0] - s), 0.0)) for place, s in zip(places, score[1:], strict=True)]


def _without(history: np.ndarray, place: int) -> np.ndarray:
    return np.concatenate([[0], np.delete(history, place)])
