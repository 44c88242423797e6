"""The optimiser, its parameter groups and the learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tasks.settings import Fit

START, END = 0.04, 1e-3  # of the peak learning rate, at the first and the last step


def learning_rate_factor(fit: Fit, progress: float) -> float:
    """The learning rate at a progress in [0, 1], as a share of its peak.

    one_cycle: cosine up, cosine down (Smith 2018); cosine: linear up, cosine down (Loshchilov 2017); constant: linear up, then constant.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < fit.warmup:
        rise = progress / fit.warmup
        return START + (1 - START) * ((1 - math.cos(math.pi * rise)) / 2 if fit.schedule == "one_cycle" else rise)
    if fit.schedule == "constant":
        return 1.0
    fall = (progress - fit.warmup) / (1 - fit.warmup)
    return END + (1 - END) * (1 + math.cos(math.pi * fall)) / 2


def build_optimizer(network: nn.Module, fit: Fit) -> torch.optim.Optimizer:
    """AdamW (Loshchilov 2019) or SGD with Nesterov momentum, over the groups of `parameter_groups`."""
    groups = parameter_groups(network, fit)
    if fit.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=fit.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=fit.learning_rate, betas=(0.9, 0.99))


def parameter_groups(network: nn.Module, fit: Fit) -> list[dict[str, Any]]:
    """Parameter groups by layer: `scale` is the factor of the learning rate, `head` marks the last layer; norms and biases do not decay."""
    layers: list[nn.Module] = network.layers() if fit.layer_decay < 1 or fit.frozen_epochs else [network]  # pyright: ignore[reportCallIssue]
    seen: set[int] = set()
    groups = []
    for depth, layer in enumerate(layers):
        scale, is_head = fit.layer_decay ** (len(layers) - 1 - depth), depth == len(layers) - 1
        groups += _of_layer(layer.parameters(), seen, fit.weight_decay, scale=scale, head=is_head)
    # parameters outside of layers(), such as a class token, learn like the first layer
    groups += _of_layer(network.parameters(), seen, fit.weight_decay, scale=fit.layer_decay ** (len(layers) - 1), head=False)
    return groups


def _of_layer(parameters: Iterable[Tensor], seen: set[int], weight_decay: float, **facts: Any) -> list[dict[str, Any]]:
    new = [p for p in parameters if p.requires_grad and id(p) not in seen]
    seen |= {id(p) for p in new}
    kinds = ([p for p in new if p.ndim > 1], weight_decay), ([p for p in new if p.ndim <= 1], 0.0)
    return [{"params": members, "weight_decay": decay, **facts} for members, decay in kinds if members]
