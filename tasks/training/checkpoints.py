"""The state of a fit on disk: written whole or not at all, the last two kept, the newest readable one resumed. And what is kept of it."""

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
    load_weights(network, checkpoint)
    return network.eval()


def load_weights(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Make a fresh network of the checkpoint's use case the one that was kept, pruned or not."""
    state = load_file(checkpoint.folder / "weights.safetensors")
    resize(network, state)
    network.load_state_dict(state)


def resize(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give convolutions, linear layers and batch norms the sizes of a pruned network's `state`; what they held is lost where it changes."""
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
