"""The whole way of a person with texts: one command, in a process of its own, for either task."""

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
QUICK = [
    "--usecase.width",
    "64",
    "--usecase.depth",
    "2",
    "--usecase.length",
    "64",
    "--pretraining.epochs",
    "1",
    "--pretraining.batch_size",
    "32",
]
FIT = ["--fit.epochs", "6", "--fit.batch_size", "32", "--budget.max_loss", "0.02", "--json"]


def run(*command: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VERTICALS_HOME": str(home)}
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def released(home: Path, *settings: str) -> dict[str, Any]:
    before = {path.name for path in ROOT.iterdir()} | {".hypothesis"}  # of tests that run at the same time
    done = run("flows.nlp", *QUICK, *FIT, *settings, home=home)
    assert {path.name for path in ROOT.iterdir()} <= before, "a library left files where the process stands"
    assert done.returncode == 0, done.stderr
    for noise in ("Traceback", "Warning", "warn(", "INFO"):
        assert noise not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def everyone(release: dict[str, Any]) -> list[dict[str, Any]]:
    return [release["chosen"], *(rejection["evaluation"] for rejection in release["rejected"])]


@pytest.fixture(scope="module")
def classifier(home: Path) -> dict[str, Any]:
    return released(home)


@pytest.fixture(scope="module")
def tagger(home: Path) -> dict[str, Any]:
    return released(home, "--usecase.task", "entities", "--usecase.model", "lstm")


def test_classes_are_released_with_their_rivals(classifier: dict[str, Any]) -> None:
    labels = {e["model"]["label"] for e in everyone(classifier)}
    assert {"fp32", "student", "linear"} <= labels
    assert any(label.startswith("int8") for label in labels)
    assert classifier["chosen"]["scores"]["accuracy"] > 0.75
    best = max(everyone(classifier), key=lambda e: e["scores"]["accuracy"])
    assert best["scores"]["accuracy"] - classifier["chosen"]["scores"]["accuracy"] <= 0.02 + 1e-9


def test_the_classifier_answers_and_explains_without_torch(classifier: dict[str, Any], tmp_path: Path) -> None:
    answered = run("tasks.serving", "predict", classifier["bundle"], "I want my money back, 请退款", "--explain", "--json", home=tmp_path)
    assert answered.returncode == 0, answered.stderr
    answer = json.loads(answered.stdout)
    assert sum(row["probability"] for row in answer["top"]) <= 1.001
    assert [word["text"] for word in answer["explanation"]["words"]][:3] == ["I", "want", "my"]
    assert any(word["weight"] for word in answer["explanation"]["words"])


def test_entities_carry_the_characters_of_the_text(tagger: dict[str, Any]) -> None:
    assert tagger["chosen"]["scores"]["entity_f1"] > 0.6
    assert {"fp32", "student", "crf"} <= {e["model"]["label"] for e in everyone(tagger)}
    bundle = Path(tagger["bundle"])
    text = (bundle / "example" / "request.txt").read_text(encoding="utf-8")
    answer = json.loads((bundle / "example" / "answer.json").read_text(encoding="utf-8"))
    assert answer["entities"]
    for entity in answer["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("classifier", ("Confusion matrix", "Why", "<mark", "Calibration", "Integrated gradients", "Attention")),
        ("tagger", ("Scores by entity type", "<mark", "Found", "Integrated gradients")),
    ],
)
def test_the_report_shows_texts(which: str, words: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    page = Path(request.getfixturevalue(which)["report"]).read_text(encoding="utf-8")
    for word in words:
        assert word in page
