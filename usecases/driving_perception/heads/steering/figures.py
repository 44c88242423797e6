"""Figures of the steering in the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks.contract.types import Predict
from usecases import charts
from usecases.driving_perception.heads.steering.scores import WITHIN, SteeringEvaluator
from usecases.driving_perception.pictures import SHOWN, WIDE
from usecases.driving_perception.scenes import StoredScenes, inputs_of

BATCH = 8
SHOWN_MOMENTS = 300


def along(evaluator: SteeringEvaluator) -> dict[str, Any]:
    """A chart of the recorded and the predicted steering along the test split."""
    shown = list(range(min(SHOWN_MOMENTS, len(evaluator.rows))))
    wanted, value, deviation = (np.stack(rows)[: len(shown), 0] for rows in (evaluator.wanted, evaluator.values, evaluator.deviations))
    lines = {"driver": wanted, "network": value, "95 % above": value + WITHIN * deviation, "95 % below": value - WITHIN * deviation}
    series = [
        {"name": name, "x": shown, "y": [round(float(one), 4) for one in y], **({"dashed": True} if "%" in name else {})}
        for name, y in lines.items()
    ]
    return {
        "kind": "lines",
        "title": "Steering along the test split",
        "caption": "A jump is the beginning of another stretch of a recording.",
        "series": series,
        "x_label": "moment",
        "y_label": "steering",
    }


def by_previous_frames(evaluator: SteeringEvaluator, predict: Predict, scenes: StoredScenes, count: int) -> Iterator[dict[str, Any]]:
    """A chart of the error of the steering by the number of preceding images, for networks whose inputs are yaw rates.

    Args:
        evaluator: with all frames of the split.
        predict: a predictor.
        scenes: the split.
        count: number of yaw rates that are inputs of the network; 0: none.

    Yields:
        A block of kind bars, or nothing.
    """
    if not count:
        return
    rmse: dict[int, float] = {}
    for known in range(min(2, count)):
        off = []
        for start in range(0, len(evaluator.rows), BATCH):
            batch = scenes.batch(np.array(evaluator.rows[start : start + BATCH]))
            batch["turn"][:, 2 * known :] = 0
            off.append(predict(inputs_of(batch))["values"][:, 0] - batch["values"][:, 0])
        rmse[known] = float(np.sqrt(np.square(np.concatenate(off)).mean()))
    rmse[count] = evaluator.scores()["steering_rmse"]
    yield {
        "kind": "bars",
        "title": "Error by preceding images",
        "caption": "`steering_rmse` of requests with this many preceding images; lower is better.",
        "items": [{"label": f"{known} preceding" if known else "image alone", "value": round(value, 4)} for known, value in rmse.items()],
    }


def worst_moments(evaluator: SteeringEvaluator, scenes: StoredScenes) -> dict[str, Any]:
    """A gallery of the moments with the largest errors."""
    names, items = scenes.names(), []
    wanted, value, deviation = (np.stack(rows)[:, 0] for rows in (evaluator.wanted, evaluator.values, evaluator.deviations))
    for place in np.argsort(-np.abs(value - wanted), kind="stable")[:SHOWN]:
        row = evaluator.rows[place]
        image = charts.picture(scenes.batch(np.array([row]))["image"][0].transpose(1, 2, 0), WIDE)
        line = f"driver {wanted[place]:+.2f}, network {value[place]:+.2f} ± {deviation[place]:.2f}"
        items.append({"image": image, "alt": names[row], "lines": [names[row], line]})
    return {
        "kind": "gallery",
        "large": True,
        "title": "Worst moments",
        "caption": "Check these first for wrong recordings.",
        "items": items,
    }
