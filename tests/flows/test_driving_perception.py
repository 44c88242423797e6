"""The whole way of a person with pictures of roads: one command, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
QUICK = ["--preset", "smoke", "--usecase.channels", "16", "--usecase.height", "72", "--usecase.width", "96", "--json"]
QUICK += ["--fit.epochs", "10", "--adaptation.epochs", "3", "--usecase.scenario", "night", "--budget.max_loss", "0.05"]


def run(*command: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VERTICALS_HOME": str(home)}
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = run("flows.driving_perception", *QUICK, home=tmp_path_factory.mktemp("home"))
    assert done.returncode == 0, done.stderr
    for noise in ("Traceback", "Warning", "warn("):
        assert noise not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_scenes_are_learnt_and_compressed(release: dict[str, Any]) -> None:
    scores = release["chosen"]["scores"]
    assert scores["miou"] > 0.4 and scores["iou/road"] > 0.7
    assert {"miou/day", "miou/night", "miou/rain", "miou/fog", "map", "map50", "steering_mae", "mean_of_heads"} <= scores.keys()
    assert scores["map50"] > 0.3 and scores["steering_rmse"] < scores["steering_rmse_mean"]
    labels = [release["chosen"]["model"]["label"], *(r["evaluation"]["model"]["label"] for r in release["rejected"])]
    assert {"fp32", "before adapting"} <= set(labels) and any(label.startswith("int8") for label in labels)


def test_the_bundle_answers_without_torch(release: dict[str, Any], tmp_path: Path) -> None:
    example = next((Path(release["bundle"]) / "example").glob("request*"))
    answered = run("tasks.serving", "predict", release["bundle"], str(example), home=tmp_path)
    assert answered.returncode == 0, answered.stderr
    for word in ("road", "Advice: ", "Steering"):
        assert word in answered.stdout


def test_the_report_shows_roads(release: dict[str, Any]) -> None:
    page = Path(release["report"]).read_text(encoding="utf-8")
    for word in (
        "Class by class",
        "By scenario",
        "Effect of the adaptation",
        "Worst frames of a sample",
        "Average precision by class",
        "Evidence for classes",
        "data:image/jpeg",
    ):
        assert word in page
