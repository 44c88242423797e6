"""Digests of the data that settings name: files with links followed, data sets and models of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from usecases.reading.files import files_below

HUB = "hf://"
HUB_SECONDS = 3.0
UNKNOWN = "unknown"

Kind = Literal["dataset", "model"]


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
    """sha256 of the names, sizes and modification times of files, and of all files below folders. Links are followed."""
    facts: list[object] = []
    for path in paths:
        if path.is_dir():
            facts.append([_facts(file, str(file.relative_to(path))) for file in files_below(path, with_hidden=True)])
        else:
            facts.append(_facts(path, path.name))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _facts(path: Path, name: str) -> tuple[str, int, int] | tuple[str, str]:
    try:
        status = path.stat()
    except OSError:
        return name, "missing"
    return name, status.st_size, status.st_mtime_ns


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
