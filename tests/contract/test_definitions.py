"""Mistakes of an author of a use case are found when the class is defined or checked, each with what to write instead."""

from __future__ import annotations

import importlib
import importlib.metadata
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tasks.checks import Checked, check_monitor, check_store, prepare_for_checks
from tasks.contract.errors import ContractError
from tasks.contract.plugins import entry_points

HEAD = """
from datetime import date
from enum import Enum
from pathlib import Path
from typing import ClassVar
from tasks.contract.usecase import setting
from tests.toy import ToyUseCase

class Kind(Enum):
    A = "a"

"""
BAD = {
    "marker": ('class X(ToyUseCase):\n    """X."""\n    format: str = setting("a", description="d")', "cannot be called 'format'"),
    "name": ('class X(ToyUseCase):\n    """X."""\n    name: ClassVar[str] = "my model/1"', "letters, digits and underscores"),
    "nameless": ("class X(ToyUseCase):\n    pass", "has no docstring"),
    "nested": ('class O:\n    class X(ToyUseCase):\n        """X."""', "inside of a class or function"),
}
READS = ("vars(self)['bins']", "self.model_dump()['bins']", "dict(self)['bins']", "self.bins")


def define(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Any:
    name = f"defined_{abs(hash(text))}"
    (folder / f"{name}.py").write_text(HEAD + text + "\n")
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


@pytest.mark.parametrize("case", BAD)
def test_a_class_that_would_fail_later_is_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, words = BAD[case]
    with pytest.raises(ContractError, match=words):
        define(tmp_path, monkeypatch, text)


@pytest.mark.parametrize("read", READS)
def test_every_way_to_read_an_undeclared_setting_is_noticed(read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f'    bins: int = setting(3, description="d")\n    def prepare(self, folder, say=print):\n        {read}\n        return super().prepare(folder)'
    usecase = define(tmp_path, monkeypatch, f'class X(ToyUseCase):\n    """X."""\n{body}').X()
    with pytest.raises(ContractError, match=r"prepare reads .*bins.* without prepare=True"):
        prepare_for_checks(usecase, tmp_path / "checks")


def test_settings_of_every_type_have_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = (
        '    where: Path = setting(Path("/tmp"), description="d")\n    since: date = setting(date(2020, 1, 1), description="d")\n'
        '    kind: Kind = setting(Kind.A, description="d")\n    names: frozenset[str] = setting(frozenset({"a", "b"}), description="d")'
    )
    module = define(tmp_path, monkeypatch, f'class X(ToyUseCase):\n    """X."""\n{fields}')
    monkeypatch.setattr("tasks.contract.plugins.OURS", frozenset({"usecases", "tasks", "tests", module.__name__}))
    monkeypatch.setattr("tasks.store.keys.STARTED_NS", time.time_ns())  # the module was written before it was loaded
    checked = prepare_for_checks(module.X(since=date(2021, 1, 1)), tmp_path / "checks")
    check_store(checked)


def test_a_score_that_is_missing_is_named_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'class X(ToyUseCase):\n    """X."""\n    def score(self, predict, folder, split):\n        return {"acc": 0.5}'
    checked: Checked = prepare_for_checks(define(tmp_path, monkeypatch, text).X(), tmp_path / "checks")
    with pytest.raises(ContractError, match="the monitored 'accuracy' is not among them"):
        check_monitor(checked)


def test_two_use_cases_with_one_name_are_refused_and_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [importlib.metadata.EntryPoint("shop", value, "verticals.usecases") for value in ("one.case:Shop", "other.case:Shop")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    with pytest.raises(ContractError, match=r"'shop'.*one.case:Shop.*other.case:Shop"):
        entry_points.__wrapped__()
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [points[0], points[0]])
    assert entry_points.__wrapped__()["shop"] == points[0], "an installation that is found twice"
