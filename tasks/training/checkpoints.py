"""The state of a fit on disk: written whole or not at all, the last two kept, the newest readable one resumed. And what is kept of it."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from tasks.artifacts import Checkpoint

KEPT = 2  # a crash of the machine can spoil the newest


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    write(folder / f"step-{step:09d}.pt", state)
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        old.unlink()


def write(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    with draft.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that can be read."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile):
            continue
    return None


def load_network(checkpoint: Checkpoint) -> nn.Module:
    """The trained network as it was kept, ready to answer."""
    network = checkpoint.usecase.network(checkpoint.assets)
    network.load_state_dict(load_file(checkpoint.folder / "weights.safetensors"))
    return network.eval()
