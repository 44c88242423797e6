"""The store: found again when nothing changed, made anew when anything did, never trusted blindly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import store
from tasks.contract.artifacts import Artifact, Dataset
from tasks.contract.errors import BundleError
from tasks.contract.records import Record, read_typed, write_typed
from tests.toy import ToyUseCase


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VERTICALS_HOME", str(tmp_path / "home"))
    yield


def write(folder: Path) -> dict[str, Any]:
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "labels.txt").write_text("a\nb\n")
    (folder / ".work").mkdir(exist_ok=True)
    (folder / ".work" / "scratch").write_text("gone at the end")
    return {"usecase": ToyUseCase(), "sizes": {"train": 3}}


def test_a_change_of_what_verticals_share_makes_their_results_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "usecases" / "some"
    package.mkdir(parents=True)
    for path in (package / "__init__.py", package / "own.py", tmp_path / "usecases" / "shared.py"):
        path.write_text("one = 1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace(origin=str(package / "__init__.py")))
    store.code_version.cache_clear()
    versions = [store.code_version("usecases.some")]
    for path in (package / "own.py", tmp_path / "usecases" / "shared.py"):
        path.write_text("two = 2")
        store.code_version.cache_clear()
        versions.append(store.code_version("usecases.some"))
    assert len(set(versions)) == 3


def test_the_same_recipe_is_made_once_and_comes_back_as_the_same_record() -> None:
    made, cached = store.make(Dataset, {"data": "x"}, write)
    again, cached_again = store.make(Dataset, {"data": "x"}, lambda folder: pytest.fail("built twice"))
    assert (cached, cached_again) == (False, True)
    assert again == made
    assert type(again.usecase) is ToyUseCase
    assert made.folder.name == made.digest[:16]
    assert not (made.folder / ".work").exists()


def test_another_recipe_is_made_anew() -> None:
    store.make(Dataset, {"data": "x"}, write)
    _, cached = store.make(Dataset, {"data": "y"}, write)
    assert not cached


@pytest.mark.parametrize("damage", [lambda p: p.write_text("changed\n"), lambda p: p.unlink(), lambda p: (p.parent / "new").touch()])
def test_a_damaged_artifact_is_made_anew(damage: Any) -> None:
    made, _ = store.make(Dataset, {"data": "x"}, write)
    damage(made.assets / "labels.txt")
    again, cached = store.make(Dataset, {"data": "x"}, write)
    assert not cached
    assert store.intact(again)
    assert again.digest == made.digest


def test_killed_work_is_there_for_the_next_attempt() -> None:
    def die(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("done so far")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.make(Dataset, {"data": "x"}, die)
    seen: list[bool] = []

    def resume(folder: Path) -> dict[str, Any]:
        seen.append((folder / "half").exists())
        return write(folder)

    store.make(Dataset, {"data": "x"}, resume)
    assert seen == [True]


def test_lineage_leads_back_to_the_data() -> None:
    data, _ = store.make(Dataset, {"data": "x"}, write)
    child, _ = store.make(Artifact, {"of": data.digest}, lambda f: {**_no_sizes(write(f), f), "made_from": (data.digest,)})
    assert [m["digest"] for m in store.lineage(child.digest)] == [child.digest, data.digest]


def _no_sizes(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "own").touch()
    return {"usecase": fields["usecase"]}


def test_only_classes_of_ours_are_read() -> None:
    assert read_typed(write_typed(ToyUseCase())) == ToyUseCase()
    for foreign in ("os:PathLike", "subprocess:Popen", "tasks.store:home", "usecases.nowhere:X"):
        with pytest.raises(BundleError, match=foreign):
            read_typed({"type": foreign})


def test_a_record_refuses_a_misspelt_field() -> None:
    with pytest.raises(ValueError, match="colour"):
        type("R", (Record,), {}).model_validate({"colour": 1})
