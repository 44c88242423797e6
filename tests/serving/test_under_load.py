"""Long fuzzing and soaking of a real server, by the commands of the benchmarks: no finding, no wrong answer, no trace in the log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.serving.publishing import publish
from tests.tiers import matrix

pytest.importorskip("hypothesis")
ROOT = Path(__file__).parents[2]
MINUTES = "0.5"


@pytest.fixture(scope="module")
def repository(made: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name, bundle in zip(("toy", "other"), made, strict=True):
        publish(bundle, folder, name)
    return folder


def passes(benchmark: str, repository: Path, *options: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.serving.{benchmark}", str(repository), "--minutes", MINUTES, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("seed", matrix(range(0, 10_000, 1_000), keep=0))
def test_nothing_that_is_sent_breaks_the_server(seed: int, repository: Path) -> None:
    assert " 0 kinds of findings" in passes("fuzz", repository, "--seed", str(seed))


@pytest.mark.parametrize("clients", matrix(range(1, 11), keep=0))
def test_steady_traffic_gets_right_answers(clients: int, repository: Path) -> None:
    assert "JSON" in passes("soak", repository, "--clients", str(clients))
