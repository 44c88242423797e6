"""Artifacts on disk: made once, found again, never replaced while they are intact."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from tasks.contract.artifacts import Artifact, home
from tasks.contract.errors import BundleError
from tasks.contract.records import FORMAT, Record
from tasks.store.digests import MANIFEST, content_digest, content_files, file_digest, write_whole
from tasks.store.keys import code_of, key, versions, written
from tasks.store.uses import current

A = TypeVar("A", bound=Artifact)
R = TypeVar("R", bound=Record)
Settings = Mapping[str, Any]
MAX_HASHED_BYTES = 64_000_000  # larger files are recognised by size and time: hashing gigabytes would cost the cache its point
TRASH_SECONDS = 86_400
ALL = "all"
_refreshed: set[str] = set()


def make(
    artifact: type[A],
    settings: Settings,
    build: Callable[[Path], dict[str, Any]],
    inputs: Sequence[Artifact] = (),
    step: str = "",
    machine: bool = False,
) -> tuple[A, bool]:
    """The artifact of a step: from the store when it is there and intact, else built.

    Args:
        artifact: the class of the record.
        settings: what the step is told, JSON values and records; see `key`.
        build: gets a folder, which may hold the work of an attempt that was killed, fills it, and returns the record's fields beyond
            `digest` and `made_from`. Files in a `.work` folder below it are removed at the end.
        inputs: the artifacts that it is made from.
        step: the name of the step, for people.
        machine: the result holds for this kind of machine only.

    Returns:
        The record, and whether it was found.
    """
    name = key(build, inputs, {"kind": artifact.__name__, **settings}, machine)
    with _locked(name):
        found = None if _is_refreshed(step, name) else _recall(artifact, name)
        is_there = found is not None and intact(found)
        record = found if is_there and found is not None else _built(artifact, settings, build, inputs, step, name)
    current().take(*inputs)
    current().give(record)
    return record, is_there


def remember(
    record: type[R],
    settings: Settings,
    compute: Callable[[], R],
    inputs: Sequence[Artifact] = (),
    step: str = "",
    machine: bool = False,
) -> tuple[R, bool]:
    """Like `make`, for a record that has no files of its own, such as a measurement."""
    name = key(compute, inputs, {"kind": record.__name__, **settings}, machine)
    with _locked(name):
        found = None if _is_refreshed(step, name) else _recall(record, name)
        made = found if found is not None else compute()
        if found is None:
            _remember(name, made)
    current().take(*inputs)
    current().give(made)
    return made, found is not None


def intact(artifact: Artifact) -> bool:
    """Whether the files are those that were filed away: sizes always, content for all but the largest."""
    return _is_intact(artifact.folder)


def find(digest: str) -> Path:
    """The folder of an artifact by its digest or the first characters of it.

    Raises:
        BundleError: none or several.
    """
    found = [path for path in home().glob(f"*/{digest[:16]}*") if path.parent.name != "trash" and (path / MANIFEST).exists()]
    if len(found) != 1:
        raise BundleError(f"{len(found)} artifacts in {home()} begin with {digest[:16]!r}; one was expected.")
    return found[0]


def lineage(digest: str) -> list[dict[str, Any]]:
    """The manifests of an artifact and all that it was made from, itself first."""
    chain, queue, seen = [], [digest], set()
    while queue:
        following = queue.pop(0)
        if following in seen:
            continue
        seen.add(following)
        chain.append(manifest(following))
        queue += chain[-1]["made_from"]
    return chain


def manifest(digest: str) -> dict[str, Any]:
    """What is written down of an artifact: step, settings, code, libraries, when, where, how long."""
    found = json.loads((find(digest) / MANIFEST).read_text(encoding="utf-8"))
    if "format" in found:
        return found
    # of a release before formats were numbered: what it calls a recipe are the step and its settings, and records name a folder
    recipe = found.pop("recipe")
    found["record"].pop("location", None)
    return {"format": 0, "step": recipe.get("name", found["kind"]), "settings": recipe, **found}


# -- making -----------------------------------------------------------------------------------------------------------
def _built(artifact: type[A], settings: Settings, build: Callable[..., Any], inputs: Sequence[Artifact], step: str, name: str) -> A:
    work = home() / "work" / name
    work.mkdir(parents=True, exist_ok=True)
    started = time.time()
    fields = build(work)
    shutil.rmtree(work / ".work", ignore_errors=True)
    digest = content_digest(work)
    record = artifact(digest=digest, made_from=tuple(each.digest for each in inputs), **fields)
    code = code_of(build, inputs, settings)
    described = {
        "format": FORMAT,
        "kind": type(record).__name__.lower(),
        "digest": digest,
        "made_from": list(record.made_from),
        "step": step,
        "settings": written(settings),
        "code": code.modules,
        "libraries": versions(code.libraries),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "seconds": round(time.time() - started, 3),
        "record": record.model_dump(mode="json"),
        "files": {str(path.relative_to(work)): _facts_of(path) for path in content_files(work)},
    }
    (work / MANIFEST).write_text(json.dumps(described, indent=1), encoding="utf-8")
    _file_away(work, record.folder)
    _remember(name, record)
    return record


def _file_away(work: Path, folder: Path) -> None:
    """Give finished work its place. The same content that is there and intact stays; what is damaged is moved aside, not deleted."""
    sync(work)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.name):
        if _is_intact(folder):
            shutil.rmtree(work)
            return
        if folder.exists():
            trash = home() / "trash"
            trash.mkdir(exist_ok=True)
            _empty(trash)
            folder.rename(trash / f"{folder.name}-{uuid.uuid4().hex[:8]}")
        work.rename(folder)
        sync(folder.parent, recursive=False)


def sync(folder: Path, recursive: bool = True) -> None:
    """Have the system write a folder and all files below it to the disk."""
    for path in [*(folder.rglob("*") if recursive else ()), folder]:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _empty(trash: Path) -> None:
    for path in trash.iterdir():
        if path.stat().st_mtime < time.time() - TRASH_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _is_intact(folder: Path) -> bool:
    try:
        listed: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return False
    present = {str(path.relative_to(folder)) for path in content_files(folder)}
    return present == set(listed) and all(_same_file(folder / name, facts) for name, facts in listed.items())


def _facts_of(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": file_digest(path)}


def _same_file(path: Path, facts: dict[str, Any]) -> bool:
    status = path.stat()
    if status.st_size != facts["bytes"]:
        return False
    if status.st_size > MAX_HASHED_BYTES and status.st_mtime_ns == facts["mtime_ns"]:
        return True
    return file_digest(path) == facts["sha256"]


# -- the index --------------------------------------------------------------------------------------------------------
def _is_refreshed(step: str, name: str) -> bool:
    """Whether the user asks for a step to be computed again (`--refresh STEP`), and in this process it was not yet."""
    asked = os.environ.get("VERTICALS_REFRESH", "").split(",")
    if name in _refreshed or not (ALL in asked or step.partition(" ")[0] in filter(None, asked)):
        return False
    _refreshed.add(name)
    shutil.rmtree(home() / "work" / name, ignore_errors=True)
    return True


def _recall(record: type[R], name: str) -> R | None:
    try:
        return record.model_validate_json((home() / "index" / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValidationError, BundleError):  # absent, or written by another version: made again
        return None


def _remember(name: str, record: Record) -> None:
    write_whole(home() / "index" / f"{name}.json", record.model_dump_json(indent=1))


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Two runs never make the same thing at once: the second waits, then finds it."""
    path = home() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
