"""What the report shows of steering."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks.contract.types import Predict
from usecases import charts
from usecases.driving_perception.heads.steering.scores import WITHIN, SteeringJudge
from usecases.driving_perception.pictures import SHOWN, WIDE
from usecases.driving_perception.scenes import StoredScenes, inputs_of

BATCH = 8
SHOWN_MOMENTS = 300


def along(judge: SteeringJudge) -> dict[str, Any]:
    shown = list(range(min(SHOWN_MOMENTS, len(judge.rows))))
    wanted, value, deviation = (np.stack(rows)[: len(shown), 0] for rows in (judge.wanted, judge.values, judge.deviations))
    lines = {"driver": wanted, "network": value, "95 % above": value + WITHIN * deviation, "95 % below": value - WITHIN * deviation}
    series = [
        {"name": name, "x": shown, "y": [round(float(one), 4) for one in y], **({"dashed": True} if "%" in name else {})}
        for name, y in lines.items()
    ]
    return {
        "kind": "lines",
        "title": "Steering along the test split",
        "caption": "Where lines jump, a stretch of another time begins.",
        "series": series,
        "x_label": "moment",
        "y_label": "steering",
    }


def by_turns(judge: SteeringJudge, predict: Predict, scenes: StoredScenes, count: int) -> Iterator[dict[str, Any]]:
    """How far off the steering is that is asked for with some of the pictures before, where the network is told the turns."""
    if not count:
        return
    rmse: dict[int, float] = {}
    for known in range(min(2, count)):
        off = []
        for start in range(0, len(judge.rows), BATCH):
            batch = scenes.batch(np.array(judge.rows[start : start + BATCH]))
            batch["turn"][:, 2 * known :] = 0
            off.append(predict(inputs_of(batch))["values"][:, 0] - batch["values"][:, 0])
        rmse[known] = float(np.sqrt(np.square(np.concatenate(off)).mean()))
    rmse[count] = judge.scores()["steering_rmse"]
    yield {
        "kind": "bars",
        "title": "What the pictures before are worth",
        "caption": "`steering_rmse` where a picture is sent with so many of those before it; less is better.",
        "items": [{"label": f"{known} before" if known else "alone", "value": round(value, 4)} for known, value in rmse.items()],
    }


def worst_moments(judge: SteeringJudge, scenes: StoredScenes) -> dict[str, Any]:
    names, items = scenes.names(), []
    wanted, value, deviation = (np.stack(rows)[:, 0] for rows in (judge.wanted, judge.values, judge.deviations))
    for place in np.argsort(-np.abs(value - wanted), kind="stable")[:SHOWN]:
        row = judge.rows[place]
        image = charts.picture(scenes.batch(np.array([row]))["image"][0].transpose(1, 2, 0), WIDE)
        line = f"driver {wanted[place]:+.2f}, network {value[place]:+.2f} ± {deviation[place]:.2f}"
        items.append({"image": image, "alt": names[row], "lines": [names[row], line]})
    return {"kind": "gallery", "large": True, "title": "Worst moments", "caption": "Look for wrong recordings here first.", "items": items}
