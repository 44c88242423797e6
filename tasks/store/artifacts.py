"""Artifacts on disk: each is made once, found again by its key, and never replaced while it is intact."""

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
MAX_HASHED_BYTES = 64_000_000  # larger files are compared by size and time, since hashing gigabytes takes longer than the cache saves
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
    """The artifact of a step: from the store if it is there and intact, otherwise built.

    Args:
        artifact: the class of the record.
        settings: arguments of the step, JSON values and records; see `key`.
        build: writes the files to a folder, which may contain the work of an attempt that was killed, and returns the fields of the record
            except `digest` and `made_from`. A folder `.work` in it is removed at the end.
        inputs: the artifacts that it is made from.
        step: name of the step in manifests.
        machine: whether the result is valid only for this kind of machine.

    Returns:
        The record, and whether it was found in the store.
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
    """The record of a step without files, such as a measurement: from the store if it is there, otherwise computed.

    Args:
        record: the class of the record.
        settings: arguments of the step, JSON values and records; see `key`.
        compute: computes the record.
        inputs: the artifacts that it is computed from.
        step: name of the step, by which `--refresh` selects it.
        machine: whether the result is valid only for this kind of machine.

    Returns:
        The record, and whether it was found in the store.
    """
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
    """Whether the files are those that the manifest lists: sizes are always compared, contents for all but the largest files."""
    return _is_intact(artifact.folder)


def find(digest: str) -> Path:
    """The folder of an artifact by its digest or the first characters of it.

    Raises:
        BundleError: no artifact or several have such a digest.
    """
    found = [path for path in home().glob(f"*/{digest[:16]}*") if path.parent.name != "trash" and (path / MANIFEST).exists()]
    if len(found) != 1:
        raise BundleError(f"{len(found)} artifacts in {home()} have a digest that begins with {digest[:16]!r}; exactly one was expected.")
    return found[0]


def lineage(digest: str) -> list[dict[str, Any]]:
    """The manifest of an artifact, followed by those of all artifacts that it was made from."""
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
    """The manifest of an artifact: step, settings, code, libraries, time, host and duration."""
    found = json.loads((find(digest) / MANIFEST).read_text(encoding="utf-8"))
    if "format" in found:
        return found
    # format 0, before formats were numbered: step and settings were called the recipe, and records had the path of their folder
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
    """Move finished work into the store. An intact folder with the same content stays; a damaged one is moved to the trash first."""
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
    """Have the system write a folder, and with `recursive` all files below it, to the disk."""
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
    """Whether the user asked for a step to be computed again (`--refresh STEP`), and this process has not done so yet."""
    asked = os.environ.get("VERTICALS_REFRESH", "").split(",")
    if name in _refreshed or not (ALL in asked or step.partition(" ")[0] in filter(None, asked)):
        return False
    _refreshed.add(name)
    shutil.rmtree(home() / "work" / name, ignore_errors=True)
    return True


def _recall(record: type[R], name: str) -> R | None:
    try:
        return record.model_validate_json((home() / "index" / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValidationError, BundleError):  # absent, or written by another version: it is made again
        return None


def _remember(name: str, record: Record) -> None:
    write_whole(home() / "index" / f"{name}.json", record.model_dump_json(indent=1))


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Lock a name: if two runs need the same artifact, the second one waits and then finds it."""
    path = home() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
