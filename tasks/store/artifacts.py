"""Artifacts on disk: each is made once, found again by its key, and never replaced while it is intact."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from tasks.contract.artifacts import Artifact, home
from tasks.contract.errors import BundleError, StoreError
from tasks.contract.records import FORMAT, Record
from tasks.store.digests import MANIFEST, SCRATCH, content_digest, content_files, file_digest, write_whole
from tasks.store.keys import Code, code_of, edited, key_of, versions, written
from tasks.store.uses import current

A = TypeVar("A", bound=Artifact)
R = TypeVar("R", bound=Record)
Settings = Mapping[str, Any]
MAX_HASHED_BYTES = 64_000_000  # larger files are compared by size and time, since hashing gigabytes takes longer than the cache saves
TRASH_SECONDS = 86_400
ALL = "all"
DIGEST = re.compile("[0-9a-f]{64}")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_refreshed: set[str] = set()
_reported: set[str] = set()


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

    Raises:
        StoreError: the result has to be written, and the disk is full or the store cannot be written.
    """
    search = _Search.of(build, inputs, {"kind": artifact.__name__, **settings}, step, machine)
    found = search.recall(artifact)
    record = found
    if record is None:
        with _writing(), _locked(search.key):
            found = search.recall(artifact) or search.finish(artifact)
            record = found or _built(artifact, settings, build, inputs, step, search)
    current().take(*inputs)
    current().give(record)
    return record, found is not None


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
    search = _Search.of(compute, inputs, {"kind": record.__name__, **settings}, step, machine)
    made = found = search.recall(record)
    if made is None:
        with _writing(), _locked(search.key):
            found = search.recall(record)
            made = found or compute()
            if found is None and search.is_valid():
                _remember(search.key, made)
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
    path = find(digest) / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("made_from"), list):
        raise BundleError(f"The manifest {path} is damaged. Remove its folder; the run that made it makes it again.")
    if "format" in found:
        return found
    # format 0, before formats were numbered: step and settings were called the recipe, and records had the path of their folder
    recipe = found.pop("recipe")
    found["record"].pop("location", None)
    return {"format": 0, "step": recipe.get("name", found["kind"]), "settings": recipe, **found}


# -- making -----------------------------------------------------------------------------------------------------------
@dataclass
class _Search:
    """The search for the result of a step by its key, and whether the key is that of the code that this process runs."""

    key: str
    find_code: Callable[[], Code]
    code: Code
    is_refreshed: bool
    edited: list[str]

    @classmethod
    def of(cls, step: Callable[..., Any], inputs: Sequence[Artifact], settings: Settings, name: str, machine: bool) -> Self:
        def find_code() -> Code:
            return code_of(step, inputs, settings)

        code = find_code()
        found = key_of(code, step, inputs, settings, machine)
        return cls(found, find_code, code, _is_refreshed(name, found), edited(code))

    def recall(self, record: type[R]) -> R | None:
        """What the index has, if it is intact."""
        found = None if self.is_refreshed or self.edited else _recall(record, self.key)
        return None if isinstance(found, Artifact) and not intact(found) else found

    def finish(self, artifact: type[A]) -> A | None:
        """File complete work away, whose run was killed before it could do so."""
        work = home() / "work" / self.key
        described = _described(work)
        if self.is_refreshed or self.edited or described is None or described.get("key") != self.key or not _is_intact(work):
            return None
        try:
            record = artifact.model_validate(described.get("record"))
        except (ValidationError, BundleError):
            return None
        _file_away(work, record, self.key)
        return record

    def is_valid(self) -> bool:
        """Whether the code on disk is still what the key was computed from; if not, nobody knows which of both made the result."""
        changed = self.edited or edited(self.code) or ([] if self.find_code() == self.code else ["the code of this step"])
        for name in changed:
            if name not in _reported:
                _reported.add(name)
                _report(f"{name} was changed during this run: results of it are used, but not kept for later runs.")
        return not changed


def _built(artifact: type[A], settings: Settings, build: Callable[..., Any], inputs: Sequence[Artifact], step: str, search: _Search) -> A:
    # what runs code that was edited is not resumed: its key is that of the new code
    work = home() / "work" / (search.key if not search.edited else f"{search.key}-{uuid.uuid4().hex[:8]}")
    if search.is_refreshed:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    (work / MANIFEST).unlink(missing_ok=True)
    started = time.time()
    fields = build(work)
    digest = content_digest(work)
    record = artifact(digest=digest, made_from=tuple(each.digest for each in inputs), **fields)
    code, name = search.code, search.key if search.is_valid() else ""
    described = {
        "format": FORMAT,
        "kind": type(record).__name__.lower(),
        "digest": digest,
        "key": name,
        "made_from": list(record.made_from),
        "step": step,
        "settings": written(settings),
        "code": code.modules | code.files,
        "libraries": versions(code.libraries),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "seconds": round(time.time() - started, 3),
        "record": record.model_dump(mode="json"),
        "files": {str(path.relative_to(work)): _facts_of(path) for path in content_files(work)},
    }
    write_whole(work / MANIFEST, json.dumps(described, indent=1))
    _file_away(work, record, name)
    return record


def _file_away(work: Path, record: Artifact, name: str) -> None:
    """Move finished work into the store. An intact folder with the same content stays; a damaged one is moved to the trash first.

    A run may be killed at any moment: from its manifest on the work is complete, and the next run files it away. The index is written
    before the folder has its name, since an entry whose folder is not there is ignored.
    """
    folder = record.folder
    shutil.rmtree(work / SCRATCH, ignore_errors=True)
    sync(work)
    if name:
        _remember(name, record)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.name):
        if _is_intact(folder):
            shutil.rmtree(work)
            return
        if folder.exists():
            trash = home() / "trash"
            trash.mkdir(exist_ok=True)
            _empty(trash)
            os.utime(folder)  # it is kept for a day from now on
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
        with suppress(OSError):  # another run removes it, too
            if path.stat().st_mtime < time.time() - TRASH_SECONDS:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _is_intact(folder: Path) -> bool:
    described = _described(folder)
    if described is None:
        return False
    listed: dict[str, Any] = described["files"]
    try:
        present = {str(path.relative_to(folder)) for path in content_files(folder)}
        return present == set(listed) and all(_same_file(folder / name, facts) for name, facts in listed.items())
    except (OSError, KeyError, TypeError):  # a file that cannot be read, or a damaged row of the manifest
        return False


def _described(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None if there is none or it is damaged."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(found, dict) and isinstance(found.get("files"), dict) and isinstance(found.get("made_from"), list)
    return found if is_whole else None


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
    return True


def _recall(record: type[R], name: str) -> R | None:
    try:
        found = record.model_validate_json((home() / "index" / f"{name}.json").read_bytes())
    except (OSError, ValueError, BundleError):  # absent, damaged, or written by another version: it is made again
        return None
    return None if isinstance(found, Artifact) and not DIGEST.fullmatch(found.digest) else found


def _remember(name: str, record: Record) -> None:
    write_whole(home() / "index" / f"{name}.json", record.model_dump_json(indent=1))


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Lock a name: if two runs need the same artifact, the second one waits and then finds it."""
    path = home() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _report("Another run makes the same result. This run waits for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _writing() -> Iterator[None]:
    """Report a store that cannot be written in one sentence.

    Raises:
        StoreError: its disk is full, or it is not a folder that may be written.
    """
    try:
        yield
    except OSError as error:
        where = home()
        if error.errno in DISK_FULL:
            raise StoreError(
                f"The disk of {where} is full ({error}). Free some space there, or set VERTICALS_HOME to a folder on another disk. "
                "The same command resumes."
            ) from error
        if error.errno in NOT_WRITABLE and Path(str(error.filename)).is_relative_to(where):
            raise StoreError(
                f"The artifact store {where} cannot be written ({error}). Set VERTICALS_HOME to a folder that you may write to."
            ) from error
        raise


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr)
