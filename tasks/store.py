"""The artifact store: immutable folders named by the digest of their content, found again by what they were made from.

    <home>/<kind>/<digest>/          the files, and manifest.json: recipe, code, libraries, when, where, how long
    <home>/index/<key>.json          recipe digest -> record: a second run with nothing changed looks here
    <home>/work/<key>/               unfinished work, kept so that a run killed half-way resumes

The home is $VERTICALS_HOME, else `.verticals` beside the code.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from tasks.contract.artifacts import Artifact
from tasks.contract.errors import BundleError
from tasks.contract.records import Record

A = TypeVar("A", bound=Artifact)
R = TypeVar("R", bound=Record)
Recipe = Mapping[str, Any]
HASHED_ON_HIT = 64_000_000  # larger files are recognised by size and time: hashing gigabytes would cost the cache its point
LIBRARIES = ("torch", "pytorch-lightning", "transformers", "onnx", "onnxruntime", "numpy", "prefect")


def home() -> Path:
    return Path(os.environ.get("VERTICALS_HOME") or Path(__file__).parents[1] / ".verticals").resolve()


def digest_of(value: Any) -> str:
    """sha256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(folder: Path) -> str:
    """sha256 over the names and contents of all files below a folder, its manifest and `logs/` aside."""
    return digest_of({str(p.relative_to(folder)): file_digest(p) for p in _files(folder)})


@functools.cache
def code_version(*packages: str) -> str:
    """A digest of the source of packages or modules: a changed engine, vertical or module that verticals share makes old results stale."""
    sources: list[Path] = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None, package
        origin = Path(spec.origin)
        sources += sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        if package.startswith("usecases."):
            sources += sorted(origin.parent.parent.glob("*.py"))  # what the verticals share
    return digest_of([(path.name, file_digest(path)) for path in sources])[:16]


def make(artifact: type[A], recipe: Recipe, build: Callable[[Path], dict[str, Any]]) -> tuple[A, bool]:
    """The artifact of a recipe: from the store when it is there and intact, else built.

    `build` gets a folder, which may hold the work of an attempt that was killed, fills it, and returns the record's
    fields beyond digest and location. Files in a `.work` folder below it are thrown away at the end.

    Returns the record and whether it was found.
    """
    key = digest_of({"kind": artifact.__name__, **recipe})
    with _locked(key):
        found = _recall(artifact, key)
        if found is not None and intact(found):
            return found, True
        work = home() / "work" / key
        work.mkdir(parents=True, exist_ok=True)
        started = time.time()
        fields = build(work)
        shutil.rmtree(work / ".work", ignore_errors=True)
        record = _file_away(artifact, recipe, fields, work, time.time() - started)
        _remember(key, record)
        return record, False


def remember(record: type[R], recipe: Recipe, compute: Callable[[], R]) -> tuple[R, bool]:
    """Like `make`, for a record that has no files of its own, such as a measurement."""
    key = digest_of({"kind": record.__name__, **recipe})
    with _locked(key):
        found = _recall(record, key)
        if found is not None:
            return found, True
        made = compute()
        _remember(key, made)
        return made, False


def intact(artifact: Artifact) -> bool:
    """Whether the files are those that were filed away: sizes always, content for all but the largest."""
    try:
        listed: dict[str, Any] = json.loads((artifact.folder / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError):
        return False
    present = {str(p.relative_to(artifact.folder)) for p in _files(artifact.folder)}
    return present == set(listed) and all(_same_file(artifact.folder / name, facts) for name, facts in listed.items())


def find(digest: str) -> Path:
    """The folder of an artifact by its digest or the first characters of it.

    Raises:
        BundleError: none or several.
    """
    found = [path for path in home().glob(f"*/{digest[:16]}*") if (path / "manifest.json").exists()]
    if len(found) != 1:
        raise BundleError(f"{len(found)} artifacts in {home()} begin with {digest[:16]!r}; one was expected.")
    return found[0]


def lineage(digest: str) -> list[dict[str, Any]]:
    """The manifests of an artifact and all that it was made from, itself first."""
    chain, queue, seen = [], [digest], set()
    while queue:
        current = queue.pop(0)
        if current in seen:
            continue
        seen.add(current)
        chain.append(manifest(current))
        queue += chain[-1]["made_from"]
    return chain


def manifest(digest: str) -> dict[str, Any]:
    """What is written down of an artifact: recipe, code, libraries, when, where, how long."""
    return json.loads((find(digest) / "manifest.json").read_text())


def _file_away(artifact: type[A], recipe: Recipe, fields: dict[str, Any], work: Path, seconds: float) -> A:
    digest = content_digest(work)
    folder = home() / _kind(artifact) / digest[:16]
    record = artifact(digest=digest, location=str(folder), **fields)
    manifest = {
        "kind": _kind(artifact),
        "digest": digest,
        "made_from": list(record.made_from),
        "recipe": dict(recipe),
        "libraries": _library_versions(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "python": platform.python_version(),
        "seconds": round(seconds, 3),
        "record": record.model_dump(mode="json"),
        "files": {str(p.relative_to(work)): _file_facts(p) for p in _files(work)},
    }
    (work / "manifest.json").write_text(json.dumps(manifest, indent=1))
    if folder.exists():  # the same content made by another recipe, or a damaged copy: the fresh one is right
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work.rename(folder)
    return record


def _kind(artifact: type[Artifact]) -> str:
    return artifact.__name__.lower()


def _files(folder: Path) -> list[Path]:
    """All but the manifest and the logs, which tell the time: the same content has the same digest."""
    ours = folder / "manifest.json", folder / "logs"
    return sorted(p for p in folder.rglob("*") if p.is_file() and not any(p.is_relative_to(own) for own in ours))


def _file_facts(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": file_digest(path)}


def _same_file(path: Path, facts: dict[str, Any]) -> bool:
    status = path.stat()
    if status.st_size != facts["bytes"]:
        return False
    if status.st_size > HASHED_ON_HIT and status.st_mtime_ns == facts["mtime_ns"]:
        return True
    return file_digest(path) == facts["sha256"]


def _library_versions() -> dict[str, str]:
    def version(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "-"

    return {name: version(name) for name in LIBRARIES}


def _recall(record: type[R], key: str) -> R | None:
    try:
        return record.model_validate_json((home() / "index" / f"{key}.json").read_text())
    except (OSError, ValidationError, BundleError):  # absent, or written by another version: made again
        return None


def _remember(key: str, record: Record) -> None:
    path = home() / "index" / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(record.model_dump_json(indent=1))
    draft.rename(path)


@contextmanager
def _locked(key: str) -> Iterator[None]:
    """Two runs never make the same thing at once: the second waits, then finds it."""
    path = home() / "locks" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
