"""How near the network's steering is to the driver's, and what the report shows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import DataError
from tasks.usecase import Predict, Split
from usecases import charts
from usecases.driving_perception.prepare_drives import StoredDrives
from usecases.driving_perception.scenes import read_card
from usecases.driving_perception.steering import answers

SHOWN_MOMENTS, SHOWN_FRAMES = 300, 6
WIDE = 320  # pixels of a picture in the report
TINY = 1e-9
WITHIN = 1.96  # deviations: 95 % of the errors of a normal distribution


def steering_scores(predict: Predict, folder: Path, split: Split) -> dict[str, float]:
    """steering_rmse, steering_mae, the share of the variance explained steering_r2, and of which errors 95 % are said to be within: coverage95.

    `steering_rmse_mean` is what saying the mean of the training split always would reach. The same of the throttle where it was recorded.

    Raises:
        DataError: the split is empty.
    """
    examples, card = StoredDrives(folder / split), read_card(folder / "assets")
    if not len(examples):
        raise DataError(f"There are no moments in the {split} split that is to be scored.")
    value, deviation, wanted = answers(predict, examples)
    measured: dict[str, float] = {}
    for column, target in enumerate(card["targets"]):
        error, plain = (value - wanted)[:, column].astype(np.float64), wanted[:, column].astype(np.float64) - card["usual"][column]
        measured |= {
            f"{target}_r2": float(1 - np.square(error).mean() / max(np.square(plain).mean(), TINY)),
            f"{target}_rmse": float(np.sqrt(np.square(error).mean())),
            f"{target}_mae": float(np.abs(error).mean()),
            f"{target}_rmse_mean": float(np.sqrt(np.square(plain).mean())),
            f"{target}_coverage95": float((np.abs(error) <= WITHIN * deviation[:, column]).mean()),
        }
    return measured


def steering_figures(predict: Predict, folder: Path) -> dict[str, Any]:
    """The driver's steering and the network's along the test split, one against the other, and the worst moments."""
    examples = StoredDrives(folder / "test")
    value, deviation, wanted = answers(predict, examples)
    value, deviation, wanted = value[:, 0], deviation[:, 0], wanted[:, 0]
    shown = list(range(min(SHOWN_MOMENTS, len(value))))
    series = [
        {"name": "driver", "x": shown, "y": [round(float(wanted[i]), 4) for i in shown]},
        {"name": "network", "x": shown, "y": [round(float(value[i]), 4) for i in shown]},
        {"name": "95 % above", "x": shown, "y": [round(float(value[i] + WITHIN * deviation[i]), 4) for i in shown], "dashed": True},
        {"name": "95 % below", "x": shown, "y": [round(float(value[i] - WITHIN * deviation[i]), 4) for i in shown], "dashed": True},
    ]
    worst = np.argsort(-np.abs(value - wanted), kind="stable")[:SHOWN_FRAMES]
    items = [
        {
            "image": charts.picture(examples.images[row].transpose(1, 2, 0), WIDE),
            "alt": f"{examples.names[row]}",
            "lines": [examples.names[row], f"driver {wanted[row]:+.2f}, network {value[row]:+.2f} ± {deviation[row]:.2f}"],
        }
        for row in worst
    ]
    blocks = [
        {
            "kind": "lines",
            "title": "Along the test split",
            "caption": "Where lines jump, a stretch of another time begins.",
            "series": series,
            "x_label": "moment",
            "y_label": "steering",
        },
        {"kind": "gallery", "title": "Worst moments", "caption": "Look for wrong recordings here first.", "items": items},
    ]
    return {"title": "Steering on the test split", "blocks": blocks}
