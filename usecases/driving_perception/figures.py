"""What the report shows of a model of road scenes, head by head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.contract.types import Predict
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.scenes import StoredScenes, read_card
from usecases.driving_perception.scores import Judged, judged


def figures(predict: Predict, folder: Path) -> dict[str, Any]:
    """Tables, charts and pictures of the test split; pictures the worst first."""
    card, scenes = read_card(folder / "assets"), StoredScenes(folder / "test")
    found = judged(predict, folder, "test")
    blocks = [block for name, judge in found.whole.items() for block in HEADS[name].figures(judge, predict, scenes, card)]
    blocks += [_by_scenario(name, found) for name in found.whole if found.scenarios]
    return {"title": "What is seen on the test split", "blocks": blocks}


def _by_scenario(name: str, found: Judged) -> dict[str, Any]:
    metric = HEADS[name].metric
    items = [{"label": one, "value": round(judges[name].scores()[metric], 4)} for one, judges in found.scenarios.items() if name in judges]
    return {"kind": "bars", "title": f"By scenario: {name}", "caption": metric, "items": items}
