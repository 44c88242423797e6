"""The section of the report, head by head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.contract.types import Predict
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.scenes import StoredScenes, read_card
from usecases.driving_perception.scores import Evaluators, evaluate


def figures(predict: Predict, folder: Path) -> dict[str, Any]:
    """Tables, charts and galleries of the test split."""
    card, scenes = read_card(folder / "assets"), StoredScenes(folder / "test")
    found = evaluate(predict, folder, "test")
    blocks = [block for name, evaluator in found.whole.items() for block in HEADS[name].figures(evaluator, predict, scenes, card)]
    blocks += [_by_scenario(name, found) for name in found.whole if found.scenarios]
    return {"title": "Predictions on the test split", "blocks": blocks}


def _by_scenario(name: str, found: Evaluators) -> dict[str, Any]:
    metric = HEADS[name].metric
    items = [
        {"label": one, "value": round(evaluators[name].scores()[metric], 4)}
        for one, evaluators in found.scenarios.items()
        if name in evaluators
    ]
    return {"kind": "bars", "title": f"By scenario: {name}", "caption": metric, "items": items}
