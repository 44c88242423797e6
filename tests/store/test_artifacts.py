"""The store: artifacts are found if nothing has changed, made again if anything has, and checked when they are read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import store
from tasks.contract.artifacts import Artifact, Dataset
from tasks.contract.errors import BundleError, StoreError
from tasks.contract.records import Record, read_typed, write_typed
from tests.toy import ToyUseCase

ROOT = Path(__file__).parents[2]


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


def test_the_same_step_runs_once_and_gives_the_same_record() -> None:
    made, cached = store.make(Dataset, {"data": "x"}, write)
    again, cached_again = store.make(Dataset, {"data": "x"}, write)
    assert (cached, cached_again) == (False, True)
    assert again == made
    assert type(again.usecase) is ToyUseCase
    assert made.folder.name == made.digest[:16]
    assert not (made.folder / ".work").exists()


def test_a_step_with_other_settings_runs_again() -> None:
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
    seen: list[bool] = []

    def build(folder: Path) -> dict[str, Any]:
        seen.append((folder / "half").exists())
        (folder / "half").write_text("done so far")
        if len(seen) == 1:
            raise KeyboardInterrupt
        return write(folder)

    with pytest.raises(KeyboardInterrupt):
        store.make(Dataset, {"data": "x"}, build)
    store.make(Dataset, {"data": "x"}, build)
    assert seen == [False, True]


def test_work_that_was_killed_before_it_was_filed_away_is_found(tmp_path: Path) -> None:
    """The process ends at each of the last calls: after the manifest, after the scratch folder, after the index."""
    for number, call in enumerate(
        ("tasks.store.artifacts._file_away", "tasks.store.artifacts._remember", "os.utime", "pathlib.Path.rename")
    ):
        code = f"""
import os, sys
from unittest import mock
from tests.store.test_artifacts import Dataset, store, write
if len(sys.argv) > 1:
    mock.patch({call!r}, lambda *given: os._exit(9)).start()
print(store.make(Dataset, {{"data": {number}}}, write)[1])
"""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
        killed = subprocess.run([sys.executable, "-c", code, "die"], env=environment, capture_output=True, text=True)
        again = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert (killed.returncode, again.stdout) in ((9, "True\n"), (0, "True\n")), again.stderr


@pytest.mark.parametrize("text", ["null", "[]", '{"files": null}', '{"files": {}}', "\udcff"])
def test_a_damaged_manifest_or_index_is_made_anew(text: str) -> None:
    content = text.encode("utf-8", "surrogateescape")
    for number, name in enumerate(("manifest.json", "../../index/*.json")):
        made, _ = store.make(Dataset, {"data": number}, write)
        for path in made.folder.glob(name) if "*" not in name else (store.home() / "index").glob("*.json"):
            path.write_bytes(content)
        again, cached = store.make(Dataset, {"data": number}, write)
        assert not cached and store.intact(again) and store.lineage(again.digest)


def test_a_store_that_cannot_be_written_serves_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = store.make(Dataset, {"data": "x"}, write)

    def refuse(*given: Any, **options: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system", str(store.home() / "locks"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("tasks.store.digests.Path.write_text", refuse)
    assert store.make(Dataset, {"data": "x"}, write) == (made, True)
    with pytest.raises(StoreError, match=rf"{store.home()} cannot be written .*Set VERTICALS_HOME"):
        store.make(Dataset, {"data": "y"}, write)


def test_a_store_that_is_no_folder_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VERTICALS_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="cannot be written"):
        store.make(Dataset, {"data": "x"}, write)


def test_a_full_disk_is_named() -> None:
    def build(folder: Path) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match=f"The disk of {store.home()} is full .* The same command resumes"):
        store.make(Dataset, {"data": "x"}, build)


def test_the_trash_keeps_for_a_day_what_is_moved_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):

        def build(folder: Path, number: int = number) -> dict[str, Any]:
            (folder / "own").write_text(str(number))
            return write(folder)

        made, _ = store.make(Dataset, {"data": number}, build)
        (made.folder / "new").touch()
        os.utime(made.folder, (1, 1))
        store.make(Dataset, {"data": number}, build)
    assert len(list((store.home() / "trash").iterdir())) == 2


def test_results_of_code_that_was_edited_during_the_run_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("VALUE = 'old'\n")
    (tmp_path / "run.py").write_text(
        "import sys\nfrom pathlib import Path\nimport shop\nfrom tasks import store\nfrom tasks.contract.records import Record\n"
        "class Value(Record):\n    value: str\n"
        "def step():\n    return Value(value=shop.VALUE)\n"
        "if len(sys.argv) > 1:\n    Path(shop.__file__).write_text('VALUE = 123\\n'.replace('123', repr('new')))\n"
        "print(store.remember(Value, {}, step)[0].value)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = []
    for arguments in (["edit"], []):
        done = subprocess.run([sys.executable, str(tmp_path / "run.py"), *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append((done.stdout.strip(), "shop was changed during this run" in done.stderr))
    assert said == [("old", True), ("new", False)]


def test_the_place_of_the_data_makes_nothing_stale_after_it_was_prepared() -> None:
    from tasks.store.keys import key
    from usecases.nlp import TextClassification

    def step() -> None: ...

    one, other = (Dataset(digest="0" * 64, usecase=TextClassification(data=data), sizes={}) for data in ("texts", "./texts"))
    assert key(step, (one,), {"usecase": one.usecase, "given": one}) == key(step, (other,), {"usecase": other.usecase, "given": other})
    assert key(step, (), {"usecase": TextClassification()}) != key(step, (), {"usecase": TextClassification(split_seed=1)})


def test_lineage_leads_back_to_the_data() -> None:
    data, _ = store.make(Dataset, {"data": "x"}, write)

    def build(folder: Path) -> dict[str, Any]:
        (folder / "own").touch()
        return {"usecase": ToyUseCase()}

    child, _ = store.make(Artifact, {}, build, (data,), step="child")
    assert child.made_from == (data.digest,)
    assert [m["digest"] for m in store.lineage(child.digest)] == [child.digest, data.digest]
    assert store.manifest(child.digest)["step"] == "child"


def test_a_store_works_where_it_was_moved_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = store.make(Dataset, {"data": "x"}, write)
    assert str(tmp_path) not in json.dumps(store.manifest(made.digest)), "no absolute path"
    (tmp_path / "home").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("VERTICALS_HOME", str(tmp_path / "elsewhere"))
    again, cached = store.make(Dataset, {"data": "x"}, write)
    assert cached and again == made and again.folder.is_relative_to(tmp_path / "elsewhere") and store.intact(again)


def test_other_steps_with_the_same_content_do_not_replace_it() -> None:
    """A reader in a tight loop always finds every file while others make the same content again."""
    made, _ = store.make(Dataset, {"data": 0}, write)
    inode, stop, failed = made.folder.stat().st_ino, threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                (made.assets / "labels.txt").read_text()
            except OSError as error:
                failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 30):
        again, cached = store.make(Dataset, {"data": number}, write)
        assert not cached and again.digest == made.digest
    stop.set()
    reader.join()
    assert not failed and made.folder.stat().st_ino == inode


def test_a_damaged_artifact_is_moved_aside_and_not_deleted() -> None:
    made, _ = store.make(Dataset, {"data": "x"}, write)
    with (made.assets / "labels.txt").open() as opened:
        (made.folder / "new").touch()
        store.make(Dataset, {"data": "x"}, write)
        assert opened.read() == "a\nb\n"
    assert len(list((store.home() / "trash").iterdir())) == 1


def test_a_refreshed_step_runs_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def build(folder: Path) -> dict[str, Any]:
        counts.append(1)
        return write(folder)

    for refresh, expected in (("", 1), ("", 1), ("prepare", 2), ("prepare", 2), ("export", 2)):
        monkeypatch.setenv("VERTICALS_REFRESH", refresh)
        store.make(Dataset, {"data": "x"}, build, step="prepare")
        assert len(counts) == expected, refresh


def test_a_manifest_of_format_0_is_read(tmp_path: Path) -> None:
    folder = store.home() / "checkpoint" / "0123456789abcdef"
    folder.mkdir(parents=True)
    old = {
        "kind": "checkpoint",
        "digest": "0123456789abcdef",
        "made_from": [],
        "recipe": {"name": "fine_tune", "fit": {"epochs": 1}},
        "record": {"location": "/gone"},
    }
    (folder / "manifest.json").write_text(json.dumps(old))
    found = store.manifest("0123456789abcdef")
    assert (found["format"], found["step"], found["settings"]["fit"], found["record"]) == (0, "fine_tune", {"epochs": 1}, {})


def test_only_classes_of_ours_are_read() -> None:
    assert read_typed(write_typed(ToyUseCase())) == ToyUseCase()
    for foreign in ("os:PathLike", "subprocess:Popen", "tasks.store:home", "usecases.nowhere:X"):
        with pytest.raises(BundleError, match=foreign):
            read_typed({"type": foreign})


def test_tests_are_trusted_by_their_entry_point_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.contract.plugins.entry_points", dict)
    with pytest.raises(BundleError, match=r"entry point in verticals\.usecases"):
        read_typed(write_typed(ToyUseCase()))


def test_a_later_format_is_refused_and_an_earlier_one_read() -> None:
    written = write_typed(ToyUseCase())
    with pytest.raises(BundleError, match="in format 99; this release reads formats up to 1"):
        read_typed({**written, "format": 99})
    del written["format"]
    assert read_typed(written) == ToyUseCase()


def test_a_class_that_was_renamed_is_found_by_its_old_name() -> None:
    from usecases.nlp import MaskedLanguageModelling

    assert type(read_typed({"type": "usecases.nlp:HiddenTokens"})) is MaskedLanguageModelling


def test_a_record_refuses_a_misspelt_field() -> None:
    with pytest.raises(ValueError, match="colour"):
        type("R", (Record,), {}).model_validate({"colour": 1})
