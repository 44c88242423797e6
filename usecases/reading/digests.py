"""Digests of the data that settings name: files with links followed, data sets and models of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Literal

from pydantic import AfterValidator

from usecases.reading.files import walk

HUB = "hf://"
HUB_SECONDS = 3.0
UNKNOWN = "unknown"
MAX_READ = 1 << 29  # bytes of all files together: about a second of work
MIN_SAMPLE = 4096  # bytes of a file
MAX_PARTS = 1024  # into which a sample is cut
CHUNK = 1 << 20

Kind = Literal["dataset", "model"]
_File = tuple[str, Path, os.stat_result | None]


def _checked(data: str) -> str:
    """Raises `ValueError`: `data` names nothing. An empty path would be the current folder."""
    if not data.strip(" \t\r\n,"):
        raise ValueError(f"{data!r} names no data. Give a folder or file, hf://owner/name, or 'sample'.")
    if is_on_hub(data) and not data.removeprefix(HUB).partition("/")[0].strip():
        raise ValueError(f"{data!r} names no data set of the hub. Give hf://owner/name, or hf://owner/name/configuration.")
    return data


DataName = Annotated[str, AfterValidator(_checked)]
"""The value of a setting `data`: "sample", a path, or hf://owner/name; never empty."""


def data_digest(*behind: str | Path, weights: str = "") -> str:
    """A digest of the data that settings name.

    Args:
        behind: values of settings that name data ("sample", a path, or hf://owner/name; empty ones are ignored), and further files that
            are read with the data.
        weights: a digest of pretrained weights of which prepared data hold a copy.
    """
    facts = {
        "files": digest_of_files(Path(given).expanduser() for given in behind if is_local(given)),
        "revisions": [hub_revision("dataset", given.removeprefix(HUB)) for given in behind if isinstance(given, str) and is_on_hub(given)],
        "weights": weights,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def is_on_hub(given: str) -> bool:
    return given.startswith(HUB)


def is_local(given: str | Path) -> bool:
    """Whether a value of a setting such as `data` names a file or folder."""
    return isinstance(given, Path) or not (given in ("", "sample") or is_on_hub(given))


def digest_of_files(paths: Iterable[Path]) -> str:
    """sha256 of the names, sizes, times and contents of files, and of all files below folders; links are followed.

    Neither the place of a folder nor its inodes count, so that it may be moved or copied with its times. Files that are larger
    together than `MAX_READ` bytes are sampled: of each so many bytes are read as keep the total near that. A missing path counts as missing.
    """
    listed = [_listed(path) for path in paths]
    sizes = [status.st_size for files in listed for _, _, status in files if status]
    share = max(sizes, default=0) if sum(sizes) <= MAX_READ else max(MIN_SAMPLE, MAX_READ // len(sizes))
    facts = [[_facts(name, file, status, share) for name, file, status in files] for files in listed]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _listed(path: Path) -> list[_File]:
    """The file, or the files below the folder, by their names within it."""
    if not path.is_dir():
        return [(path.name, path, _status(path))]
    return sorted(((str(file.relative_to(path)), file, _status(file)) for file in walk(path, with_hidden=True)), key=lambda f: f[0])


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _facts(name: str, path: Path, status: os.stat_result | None, share: int) -> tuple[str, int, int, str] | tuple[str, str]:
    if status is None:
        return name, "missing"
    content = _content(path, status.st_size, share) if S_ISREG(status.st_mode) else ""
    return name, status.st_size, status.st_mtime_ns, content


def _content(path: Path, size: int, share: int) -> str:
    """sha256 of a file's content.

    Args:
        path: the file.
        size: its size in bytes.
        share: bytes that are read of it at most; of a larger file they are its beginning, its end and equal parts between them.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            if size <= share:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                return digest.hexdigest()
            parts = min(MAX_PARTS, share // (MIN_SAMPLE // 2))
            for number in range(parts):
                file.seek((size - share // parts) * number // (parts - 1))
                digest.update(file.read(share // parts))
    except OSError:  # preparing the data reports the reason
        return "unreadable"
    return digest.hexdigest()


def weights_digest(name: str) -> str:
    """A digest that changes with pretrained weights; empty if there are none.

    Args:
        name: a local folder, or owner/name of a model of the hub; empty or `config:<type>` for random weights.
    """
    if not name or name.startswith("config:"):
        return ""
    path = Path(name)
    return digest_of_files([path]) if path.exists() else f"{name}@{hub_revision('model', name)}"


@cache  # so that all steps of a run use the same revision
def hub_revision(kind: Kind, name: str) -> str:
    """The commit of a data set or model of the Hugging Face hub: the current one, else the one downloaded last, else "unknown".

    Args:
        kind: "dataset" or "model".
        name: owner/name; further parts, such as a configuration, are ignored.
    """
    repository = "/".join(name.split("/")[:2])
    return _within(HUB_SECONDS, lambda: _asked(kind, repository)) or _downloaded(kind, repository) or UNKNOWN


def _asked(kind: Kind, repository: str) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    ask = api.dataset_info if kind == "dataset" else api.model_info
    return ask(repository, timeout=HUB_SECONDS).sha or ""


def _downloaded(kind: Kind, repository: str) -> str:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
        return (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _within(seconds: float, ask: Callable[[], str]) -> str:
    """The result of a call, or '' after a timeout. The call runs in a thread, since the look-up of a host's address has no timeout."""
    found: list[str] = []

    def run() -> None:
        logger = logging.getLogger("huggingface_hub")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            found.append(ask())
        except Exception:  # offline mode, no network, no such repository, no permission
            found.append("")
        finally:
            logger.setLevel(level)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else ""
