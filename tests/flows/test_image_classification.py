"""The whole way of a person: one command, in a process of its own, on real images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
QUICK = ["--usecase.width", "8", "--pretraining.epochs", "1", "--fit.epochs", "3", "--json"]


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VERTICALS_HOME": str(home)}
    command = [sys.executable, "-m", "flows.image_classification", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(home: Path) -> subprocess.CompletedProcess[str]:
    return run(*QUICK, home=home)


@pytest.fixture(scope="module")
def released(first: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert first.returncode == 0, first.stderr
    return json.loads(first.stdout.splitlines()[-1])


def test_one_command_ends_with_a_release_and_a_report(released: dict[str, Any]) -> None:
    assert {"accuracy", "top5_accuracy", "macro_f1", "ece"} <= set(released["chosen"]["scores"])
    assert released["chosen"]["scores"]["accuracy"] > 0.5
    assert 0 < released["chosen"]["latency_ms"]["p50"] <= released["chosen"]["latency_ms"]["p95"]
    assert released["chosen"]["megabytes"] > 0
    assert released["rejected"]
    assert all(rejection["reason"] for rejection in released["rejected"])
    page = Path(released["report"]).read_text()
    assert "<script src" not in page
    assert all(rejection["reason"] in page for rejection in released["rejected"] if "<" not in rejection["reason"])


def test_the_screen_shows_a_summary_and_no_traces(first: subprocess.CompletedProcess[str]) -> None:
    assert "Chosen" in first.stderr
    assert "Next" in first.stderr
    for noise in ("Traceback", "Warning", "warn(", "UserWarning", "INFO", "it/s"):
        assert noise not in first.stderr, first.stderr


def test_the_bundle_serves_itself_elsewhere(released: dict[str, Any], tmp_path: Path) -> None:
    moved = tmp_path / "bundle"
    Path(released["bundle"]).rename(moved)
    try:
        example = next((moved / "example").glob("request*"))
        done = subprocess.run(
            [sys.executable, "-m", "tasks.serving", "predict", str(moved), str(example), "--json"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        moved.rename(released["bundle"])
    answer = json.loads(done.stdout.splitlines()[-1])
    assert (answer[0] if isinstance(answer, list) else answer)["label"] == released["answer"]["label"]


def test_a_second_run_with_nothing_changed_trains_nothing(released: dict[str, Any], home: Path) -> None:
    again = run(*QUICK, home=home)
    assert again.returncode == 0, again.stderr
    repeated = json.loads(again.stdout.splitlines()[-1])
    assert repeated["chosen"] == released["chosen"]
    assert again.stderr.count("from cache") >= 5
    assert "epoch" not in again.stderr


def test_a_student_is_taught_by_what_was_released(released: dict[str, Any], home: Path) -> None:
    done = run(*QUICK, "--usecase.student", "4", "--distillation.bundle", released["bundle"], home=home)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout.splitlines()[-1])
    found = {e["model"]["label"]: e for e in (again["chosen"], *(rejection["evaluation"] for rejection in again["rejected"]))}
    assert found["student"]["megabytes"] < found["fp32"]["megabytes"] / 2


def test_a_mistake_is_answered_in_words(home: Path, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "cat" / "only.png")
    for arguments, words in (
        (["--usecase.data", str(tmp_path / "nowhere")], "nowhere"),
        (["--usecase.data", str(tmp_path)], "class"),
        (["--fit.epoch", "3"], "--fit.epochs"),
    ):
        done = run(*arguments, home=home)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
