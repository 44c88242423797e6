"""Explanations of recommendations: how much the score drops without each past event. NumPy only, since they run in the server."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from tasks.contract.codec import Codec
from tasks.contract.types import Arrays, Predict
from usecases.recommendation.codec import HistoryCodec

LATEST = 10  # number of latest events that are explained


def explain(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """Explain the first recommendation by the latest events of the history.

    Args:
        predict: the model.
        codec: its codec, a `HistoryCodec`.
        request: a request.

    Returns:
        `{"item", "because": [{"item", "title", "lost"}, ...]}`, the latest event first; `lost` is the decrease of the score.
    """
    history_codec = cast(HistoryCodec, codec)
    inputs = history_codec.encode([request])
    best = int(predict(inputs)["item"][0, 0])
    found = drivers(predict, inputs, best)
    return {
        **history_codec.named(best),
        "because": [{**history_codec.named(item), "lost": round(lost, 6)} for item, lost in found],
    }


def drivers(predict: Predict, inputs: Arrays, item: int) -> list[tuple[int, float]]:
    """How much each of the latest events of a history adds to the score of an item, by leaving it out.

    Args:
        predict: the model.
        inputs: history [1, L] and allowed [1, items].
        item: number of the item.

    Returns:
        Numbers of the items of the events, the latest first, each with the decrease of the score.
    """
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
