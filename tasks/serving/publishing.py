"""A bundle as the next version of a model in a repository, which our server, Triton and KServe can read."""

from __future__ import annotations

import filecmp
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import SettingError
from tasks.serving.bundle import DTYPES, Bundle, open_bundle
from tasks.serving.graph_files import GRAPH, PACKED, read_graph, stored_graph
from tasks.serving.models import remembered
from tasks.serving.tensors import NAMES

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def publish(bundle: Path, repository: Path, name: str = "") -> Path:
    """Copy a bundle to `repository/NAME/VERSION`, all of it or nothing, and write Triton's config.pbtxt beside it.

    A packed graph becomes a plain one, since Triton opens no other. What is the newest version already is left as it is. Returns the folder of the version.

    Raises:
        BundleError: the bundle cannot be opened.
        SettingError: a name that is none.
    """
    opened = open_bundle(bundle)
    name = name or opened.usecase.name
    if not NAME.fullmatch(name):
        raise SettingError(f"{name!r} is no name of a model: letters, digits, dots, dashes and underscores were expected.")
    folder = repository / name
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{bundle.name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(bundle, draft)
    unpack(draft)
    newest = _newest(folder)
    if newest and same(folder / str(newest), draft):
        shutil.rmtree(draft)
        return folder / str(newest)
    config = folder / ".config.draft"
    config.write_text(triton_config(name, opened), encoding="utf-8")
    config.replace(folder / "config.pbtxt")
    while True:  # another may publish at the same time
        version = folder / str(_newest(folder) + 1)
        try:
            draft.rename(version)
        except OSError:
            if not version.exists():
                raise
        else:
            return version


def remove_old(model: Path, keep: int) -> None:
    """Remove all versions of a model but the newest `keep` and those that a server serves or holds at hand."""
    in_use = set(remembered(model).values())
    versions = sorted((path for path in model.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    for path in versions[: max(0, len(versions) - keep)]:
        if path.name not in in_use:
            shutil.rmtree(path, ignore_errors=True)


def unpack(bundle: Path) -> None:
    """Make the graph of a bundle a plain one."""
    stored = stored_graph(bundle)
    if stored.name == PACKED:
        (bundle / GRAPH).write_bytes(read_graph(stored))
        stored.unlink()


def _newest(folder: Path) -> int:
    return max([int(path.name) for path in folder.iterdir() if path.name.isdecimal()], default=0)


def same(one: Path, other: Path) -> bool:
    """Whether two bundles hold the same files."""
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) for folder in (one, other)]
    return names[0] == names[1] and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names[0])


def triton_config(name: str, bundle: Bundle) -> str:
    """config.pbtxt: what Triton and KServe need to serve the graph as it is."""
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
        *(["dynamic_batching { }"] if bundle.rows_are_alone else []),
    ]
    return "\n".join([*lines, *listed("input", session.get_inputs()), *listed("output", session.get_outputs())]) + "\n"
