"""The contract checks for every use case that is found by its entry point, the project's own and those of other packages."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tasks.checks import Check, Checked, checks_of, prepare_for_checks
from tasks.contract.plugins import entry_points
from tasks.contract.usecase import UseCase

ROOT = Path(__file__).parents[2]
USECASES: dict[str, UseCase] = {name: point.load().small() for name, point in entry_points().items()}
CASES = [
    pytest.param(name, check, marks=[] if name == "toy" else [pytest.mark.slow])
    for name, usecase in USECASES.items()
    for check in checks_of(usecase)
]


@functools.cache
def checked(name: str) -> Checked:
    return prepare_for_checks(USECASES[name], Path(tempfile.mkdtemp(prefix=f"verticals-{name}-")))


@pytest.mark.parametrize(("name", "check"), CASES, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_contract(name: str, check: Check) -> None:
    check(checked(name))


def test_ours_and_the_toy_of_another_package_are_found() -> None:
    assert {"driving_perception", "image_classification", "nlp", "recommendation", "toy"} <= set(USECASES)


@pytest.mark.slow
def test_a_use_case_of_another_package_is_run_and_released(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.usecase", "toy", "--fit.epochs", "3", "--pretraining.epochs", "0", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"VERTICALS_HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    released = json.loads(done.stdout.splitlines()[-1])
    answer = [sys.executable, "-m", "tasks.serving", "predict", released["bundle"], released["bundle"] + "/example/request.json", "--json"]
    assert json.loads(subprocess.run(answer, cwd=ROOT, capture_output=True, text=True, check=True).stdout) == released["answer"]


def test_an_unknown_use_case_is_reported() -> None:
    done = subprocess.run([sys.executable, "-m", "flows.usecase", "toys"], cwd=ROOT, capture_output=True, text=True)
    assert (
        done.returncode == 2
        and f"There is no use case 'toys'. There are: {', '.join(sorted(USECASES))}." in done.stderr
        and "Traceback" not in done.stderr
    )
