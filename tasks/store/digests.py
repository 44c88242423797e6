"""Digests of values, files and folders."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
LOGS = "logs"
SCRATCH = ".work"
"""Folder of unfinished work, which is removed when the artifact is filed away."""


def digest_of(value: Any) -> str:
    """sha256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically, so that no reader finds a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def content_digest(folder: Path) -> str:
    """sha256 over the names and contents of all files below a folder, without its manifest and `logs/`, which contain times."""
    return digest_of({str(path.relative_to(folder)): file_digest(path) for path in content_files(folder)})


def content_files(folder: Path) -> list[Path]:
    """The files below a folder that count as its content, sorted: all but its manifest, `logs/` and `.work/`."""
    ours = folder / MANIFEST, folder / LOGS, folder / SCRATCH
    return sorted(path for path in folder.rglob("*") if path.is_file() and not any(path.is_relative_to(own) for own in ours))
