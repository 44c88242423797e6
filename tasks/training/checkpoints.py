"""Checkpoints of a fit in progress, which are written atomically, and loading of trained networks."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from tasks.contract.artifacts import Checkpoint

KEPT = 2  # a crash of the machine can damage the newest one


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state of a fit, and remove all but the last two checkpoints.

    Args:
        folder: of the checkpoints of this fit.
        step: number of steps so far.
        state: state dicts and numbers, which `torch.load` can read with `weights_only=True`.
    """
    write(folder / f"step-{step:09d}.pt", state)
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        old.unlink()


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a file atomically, and have the system write it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    with draft.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest readable checkpoint in a folder; None if there is none."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile):
            continue
    return None


def load_network(checkpoint: Checkpoint) -> nn.Module:
    """The trained network of a checkpoint, in evaluation mode."""
    network = checkpoint.usecase.network(checkpoint.assets)
    load_weights(network, checkpoint)
    return network.eval()


def load_weights(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Load the weights of a checkpoint into a new network of its use case; layers of a pruned network are resized first."""
    state = load_file(checkpoint.folder / "weights.safetensors")
    resize(network, state)
    network.load_state_dict(state)


def resize(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Resize convolutions, linear layers and batch norms to the shapes in the state of a pruned network; resized weights are undefined."""
    for name, module in network.named_modules():
        kept = {own: state[f"{name}.{own}"] for own, held in _tensors(module) if _differs(held, state.get(f"{name}.{own}"))}
        if kept and isinstance(module, nn.Linear | _ConvNd | _BatchNorm):
            _take_sizes(module, kept)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _differs(held: Tensor, kept: Tensor | None) -> bool:
    return kept is not None and held.shape != kept.shape


def _take_sizes(module: nn.Linear | _ConvNd | _BatchNorm, kept: Mapping[str, Tensor]) -> None:
    for own, value in kept.items():
        empty = torch.empty_like(value)
        setattr(module, own, nn.Parameter(empty) if isinstance(getattr(module, own), nn.Parameter) else empty)
    if isinstance(module, _BatchNorm):
        module.num_features = len(next(iter(kept.values())))
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    else:
        depthwise = module.groups == module.in_channels > 1
        outputs, inputs = module.weight.shape[1::-1] if module.transposed else module.weight.shape[:2]
        module.groups = outputs if depthwise else module.groups
        module.out_channels, module.in_channels = outputs, inputs * module.groups
