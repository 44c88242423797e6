"""The contract over every use case that is found by its entry point, ours and those of other packages."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest

from tasks.checks import Check, Checked, checks_of, prepare_for_checks
from tasks.contract.plugins import entry_points
from tasks.contract.usecase import UseCase

USECASES: dict[str, UseCase] = {name: point.load().small() for name, point in entry_points().items()}
CASES = [(name, check) for name, usecase in USECASES.items() for check in checks_of(usecase)]


@functools.cache
def checked(name: str) -> Checked:
    return prepare_for_checks(USECASES[name], Path(tempfile.mkdtemp(prefix=f"verticals-{name}-")))


@pytest.mark.parametrize(("name", "check"), CASES, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_contract(name: str, check: Check) -> None:
    check(checked(name))


def test_ours_and_the_toy_of_another_package_are_found() -> None:
    assert {"driving_perception", "image_classification", "nlp", "recommendation", "toy"} <= set(USECASES)
