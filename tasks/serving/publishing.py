"""Publishing a bundle as the next version of a model in a repository, which this server, Triton and KServe can read."""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import SettingError
from tasks.serving.bundle import DTYPES, Bundle, open_bundle
from tasks.serving.graph_files import GRAPH, PACKED, read_graph, stored_graph
from tasks.serving.models import read_state
from tasks.serving.tensors import NAMES
from tasks.store.artifacts import sync
from tasks.store.digests import content_digest

DRAFT = ".draft-"
STALE_SECONDS = 86_400
CONFIG = "config.pbtxt"
CARD = "MODEL_CARD.md"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def publish(bundle: Path, repository: Path, name: str = "", card: str = "") -> Path:
    """Copy a bundle to `repository/NAME/VERSION` atomically, and write config.pbtxt for Triton next to the versions.

    A compressed graph is decompressed, since Triton cannot read it. Several processes may publish at the same time: each copies to its own
    temporary folder, and a lock protects the choice of the version number. A bundle that equals the newest version is not published again.

    Args:
        bundle: folder of the bundle.
        repository: folder that a server serves; created if it does not exist.
        name: of the model; empty: the name of its vertical.
        card: the model card, written to `MODEL_CARD.md` of the version; empty: none.

    Returns:
        The folder of the new version, or of the newest one if it is equal.

    Raises:
        BundleError: the bundle cannot be opened.
        SettingError: the name has characters that are not allowed.
    """
    opened = open_bundle(bundle)
    name = name or opened.usecase.name
    if not NAME.fullmatch(name):
        raise SettingError(
            f"{name!r} is not a valid name of a model: letters, digits, dots, dashes and underscores were expected, 100 at most."
        )
    folder = repository / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        private = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder))
    except OSError as error:
        raise SettingError(f"Nothing can be published to {repository} ({error}). Give a folder that you may write to.") from error
    try:
        draft = private / "bundle"
        shutil.copytree(bundle, draft)
        unpack(draft)
        if card:
            (draft / CARD).write_text(card, encoding="utf-8")
        (private / CONFIG).write_text(triton_config(name, opened), encoding="utf-8")
        sync(private)
        with _lock(folder):
            return _numbered(draft, folder)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _numbered(draft: Path, folder: Path) -> Path:
    """Rename a complete draft to the next version, unless it equals the newest one."""
    newest = _newest(folder)
    if newest and content_digest(folder / str(newest)) == content_digest(draft):
        return folder / str(newest)
    (draft.parent / CONFIG).replace(folder / CONFIG)
    version = draft.rename(folder / str(newest + 1))
    sync(folder, recursive=False)
    return version


def _remove_stale(folder: Path) -> None:
    """Remove the drafts of processes that were killed."""
    for path in folder.glob(f"{DRAFT}*"):
        with suppress(OSError):  # another process removes it, too
            if path.stat().st_mtime < time.time() - STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """A lock, so that only one process at a time numbers the versions of a model."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_old(model: Path, keep: int) -> None:
    """Remove all versions of a model except the newest `keep` and those that a server has loaded."""
    in_use = set(read_state(model).values())
    versions = sorted((path for path in model.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    for path in versions[: max(0, len(versions) - keep)]:
        if path.name not in in_use:
            shutil.rmtree(path, ignore_errors=True)


def unpack(bundle: Path) -> None:
    """Decompress the graph of a bundle in place."""
    stored = stored_graph(bundle)
    if stored.name == PACKED:
        (bundle / GRAPH).write_bytes(read_graph(stored))
        stored.unlink()


def _newest(folder: Path) -> int:
    return max([int(path.name) for path in folder.iterdir() if path.name.isdecimal()], default=0)


def triton_config(name: str, bundle: Bundle) -> str:
    """The content of config.pbtxt, with which Triton and KServe serve the graph."""
    session = bundle.session

    def listed(kind: str, values: Any) -> list[str]:
        rows = []
        for value in values:
            sides = ", ".join(str(side if isinstance(side, int) else -1) for side in value.shape[1:])
            datatype = NAMES[np.dtype(DTYPES[value.type])]
            rows.append(f'{kind} [ {{ name: "{value.name}" data_type: TYPE_{datatype} dims: [ {sides} ] }} ]')
        return rows

    lines = [
        f'name: "{name}"',
        'platform: "onnxruntime_onnx"',
        "max_batch_size: 32",
        *(["dynamic_batching { }"] if bundle.rows_are_independent else []),
    ]
    return "\n".join([*lines, *listed("input", session.get_inputs()), *listed("output", session.get_outputs())]) + "\n"
