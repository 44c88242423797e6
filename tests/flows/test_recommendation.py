"""The whole way of a person with a log: one command, in a process of its own."""

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
    "--usecase.length",
    "10",
    "--usecase.width",
    "16",
    "--fit.epochs",
    "2",
    "--fit.batch_size",
    "64",
    "--usecase.exact_up_to",
    "200",
    "--json",
]


def run(*command: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VERTICALS_HOME": str(home)}
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    return run("flows.recommendation", *QUICK, home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def released(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_is_best_is_released_though_it_was_not_trained(released: dict[str, Any]) -> None:
    everyone = [released["chosen"], *(r["evaluation"] for r in released["rejected"])]
    labels = {e["model"]["label"] for e in everyone}
    assert {"fp32", "student", "near items", "popular", "recent", "markov", "itemknn", "ease"} <= labels
    assert any(label.startswith("int8") for label in labels)
    best = max(everyone, key=lambda e: e["scores"]["ndcg@10"])
    assert best["scores"]["ndcg@10"] - released["chosen"]["scores"]["ndcg@10"] <= 0.005
    assert released["chosen"]["scores"]["hr@10"] > 0.5
    assert all(rejection["reason"] for rejection in released["rejected"])


def test_the_screen_shows_no_traces(done: subprocess.CompletedProcess[str]) -> None:
    for noise in ("Traceback", "Warning", "warn(", "INFO"):
        assert noise not in done.stderr, done.stderr


def test_the_bundle_answers_and_explains_without_torch(released: dict[str, Any], tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"history": ["item-004", "item-017"], "k": 3, "category": "Boot"}))
    answered = run("tasks.serving", "predict", released["bundle"], str(request), "--explain", "--json", home=tmp_path)
    assert answered.returncode == 0, answered.stderr
    answer = json.loads(answered.stdout)
    assert len(answer["items"]) == 3
    assert all(row["title"].startswith("Boot") for row in answer["items"])
    assert not {"item-004", "item-017"} & {row["item"] for row in answer["items"]}
    assert [row["item"] for row in answer["explanation"]["because"]] == ["item-017", "item-004"]


def test_the_report_shows_who_gets_what(released: dict[str, Any]) -> None:
    page = Path(released["report"]).read_text()
    for words in ("By length of the history", "By popularity of the target", "leave-one-out", "sampled100_hr@10", "Why "):
        assert words in page
