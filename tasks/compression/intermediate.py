"""Distillation of intermediate layers: hidden states (FitNets, Romero 2015) and attention maps (TinyBERT, Jiao 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.contract.capabilities import HasHiddenStates
from tasks.contract.errors import SettingError
from tasks.contract.types import Arrays
from tasks.contract.usecase import UseCase
from tasks.training.predicting import torch_predict

if TYPE_CHECKING:
    from tasks.training.learner import Learner

PROJECTIONS = "projections"  # submodule of the student during distillation, so that it is optimised and resumed with the student
PROBED = 2  # examples with which the widths of layers are found
T = TypeVar("T")
Extract = Callable[[nn.Module, Any, Any], Tensor]
"""Computes the tensor to be recorded from a layer, its inputs and its output."""


def add_intermediate_loss(learner: Learner, teacher: nn.Module, hidden: float, attention: float) -> None:
    """Add the distance between the hidden states and attention maps of student and teacher to the loss of a learner.

    If the widths of hidden states differ, the student gets linear projections, which `remove_projections` has to remove in the end.

    Args:
        learner: its network is the student.
        teacher: the network to learn from; its weights are frozen.
        hidden: weight of the distance of hidden states; 0: off.
        attention: weight of the distance of attention maps; 0: off.

    Raises:
        SettingError: the use case names no such layers of the network.
    """
    usecase, network, base_loss = learner.usecase, learner.network, learner.loss
    compared = isinstance(usecase, HasHiddenStates)
    for weight, name, layers in (
        (hidden, "hidden", usecase.hidden_layers(network) if compared else []),
        (attention, "attention", usecase.attention_layers(network) if compared else []),
    ):
        if weight and not layers:
            raise SettingError(
                f"--distillation.{name} {weight:g}: this network of {usecase.name} has no such layers to compare. Set it to 0."
            )
    assert isinstance(usecase, HasHiddenStates)
    if hidden:
        inputs = usecase.calibration_inputs(learner.data, np.arange(PROBED))
        network.add_module(PROJECTIONS, projections(usecase, network, teacher, inputs))

    def loss(student: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return intermediate_loss(usecase, student, teacher, batch, lambda: base_loss(student, batch), hidden, attention)

    learner.loss = loss


def remove_projections(network: nn.Module) -> None:
    """Remove the projections from a student, if there are any."""
    if hasattr(network, PROJECTIONS):
        delattr(network, PROJECTIONS)


def intermediate_loss(
    usecase: HasHiddenStates,
    student: nn.Module,
    teacher: nn.Module,
    batch: dict[str, Tensor],
    base_loss: Callable[[], Tensor],
    hidden: float,
    attention: float,
) -> Tensor:
    """Another loss plus the weighted distances of hidden states and attention maps.

    Args:
        usecase: names the layers that are compared.
        student: the network that learns.
        teacher: the network to learn from.
        batch: inputs and targets by name, each with B rows.
        base_loss: computes the other loss; it has to run both networks once, on the same inputs.
        hidden: weight of the distance of hidden states.
        attention: weight of the distance of attention maps.

    Returns:
        A scalar.
    """
    layers = match_layers(usecase.hidden_layers(student), usecase.hidden_layers(teacher)) if hidden else []
    attentions = match_layers(usecase.attention_layers(student), usecase.attention_layers(teacher)) if attention else []
    with recorded(layers, hidden_states) as states, recorded(attentions, attention_weights) as maps:
        loss = base_loss()
    padding_mask, device = usecase.padding_mask(student, batch), loss.device.type
    with torch.autocast(device, enabled=False):
        if layers:
            through = cast(Sequence[nn.Module], getattr(student, PROJECTIONS, [nn.Identity()] * len(layers)))
            distances = [
                hidden_state_loss(project, states[own], states[other], padding_mask)
                for project, (own, other) in zip(through, layers, strict=True)
            ]
            loss = loss + hidden * torch.stack(distances).mean()
        if attentions:
            distances = [attention_loss(maps[own], maps[other], padding_mask) for own, other in attentions]
            loss = loss + attention * torch.stack(distances).mean()
    return loss


def match_layers(student: Sequence[T], teacher: Sequence[T]) -> list[tuple[T, T]]:
    """Pairs of each layer of the student with one of the teacher, evenly spaced; the last is paired with the last."""
    return [(layer, teacher[max(0, round((place + 1) * len(teacher) / len(student)) - 1)]) for place, layer in enumerate(student)]


@contextmanager
def recorded(pairs: Sequence[tuple[nn.Module, nn.Module]], extract: Extract) -> Iterator[dict[nn.Module, Tensor]]:
    """Record a tensor of each layer whenever it runs in the block.

    The hooks are removed at the end of the block, so that copies of the network have none.

    Args:
        pairs: layers of student and teacher.
        extract: computes the tensor.

    Yields:
        The tensors by layer.
    """
    tensors: dict[nn.Module, Tensor] = {}

    def record(layer: nn.Module, inputs: Any, output: Any) -> None:
        tensors[layer] = extract(layer, inputs, output)

    hooks = [layer.register_forward_hook(record) for layer in {layer for pair in pairs for layer in pair}]
    try:
        yield tensors
    finally:
        for hook in hooks:
            hook.remove()


def hidden_states(layer: nn.Module, inputs: Any, output: Any) -> Tensor:
    """The hidden states in the output of a layer.

    Args:
        layer: not used.
        inputs: not used.
        output: hidden states, or a tuple that begins with them, which recurrent layers and some layers of transformers return.

    Returns:
        The hidden states.
    """
    return output[0] if isinstance(output, tuple) else output


def attention_weights(layer: nn.Module, inputs: Any, output: Any) -> Tensor:
    """The attention weights of a layer. They are computed in addition, since fused attention never has them in memory.

    Args:
        layer: has a method `weights`.
        inputs: positional arguments of the layer.
        output: not used.

    Returns:
        Attention weights [B, heads, Q, L].
    """
    return cast(Any, layer).weights(*inputs)


def hidden_state_loss(project: nn.Module, student: Tensor, teacher: Tensor, padding_mask: Tensor | None) -> Tensor:
    """The mean squared distance of normalised hidden states: 0 for equal and 2 for unrelated states, at any width.

    Args:
        project: maps the width of the student's states to that of the teacher's.
        student: [B, D], [B, L, D] or [B, D, H, W].
        teacher: of the same kind, detached.
        padding_mask: the positions that are compared, bool [B, L]; None: all.

    Returns:
        A scalar.
    """
    found, wanted = by_position(student, teacher)
    found = project(found.float())
    difference = F.layer_norm(found, found.shape[-1:]) - F.layer_norm(wanted.float(), wanted.shape[-1:])
    return masked_mean(difference.square().mean(-1), padding_mask)


def attention_loss(student: Tensor, teacher: Tensor, padding_mask: Tensor | None) -> Tensor:
    """The Kullback-Leibler divergence of attention maps, in nats. If the numbers of heads differ, their means are compared.

    Args:
        student: attention weights [B, heads, Q, L].
        teacher: the same of the teacher, detached.
        padding_mask: the queries that are compared, bool [B, Q]; None: all.

    Returns:
        A scalar.
    """
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    smallest = torch.finfo(torch.float32).tiny
    divergence = F.kl_div(student.float().clamp_min(smallest).log(), teacher.float(), reduction="none")
    return masked_mean(divergence.sum(3).mean(1), padding_mask)


def by_position(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """States with the width last; feature maps [B, D, H, W] are pooled to the smaller of both sizes and become [B, H * W, D]."""
    if student.ndim < 4:
        return student, teacher
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    pooled = (maps if maps.shape[2:] == size else F.adaptive_avg_pool2d(maps, size) for maps in (student, teacher))
    one, other = (maps.flatten(2).transpose(1, 2) for maps in pooled)
    return one, other


def masked_mean(distance: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the positions where the mask is True, or over all without a mask; 0 if it is True nowhere."""
    return distance.mean() if mask is None else (distance * mask).sum() / mask.sum().clamp(min=1)


def projections(usecase: UseCase, student: nn.Module, teacher: nn.Module, inputs: Arrays) -> nn.ModuleList:
    """Linear layers from the widths of the student's hidden states to those of the teacher's.

    Args:
        usecase: names the layers that are compared.
        student: the network that learns.
        teacher: the network to learn from.
        inputs: example inputs, with which the widths are found.

    Returns:
        A layer for each pair of `match_layers`; the identity if the widths are equal.
    """
    assert isinstance(usecase, HasHiddenStates), usecase.name
    pairs = match_layers(usecase.hidden_layers(student), usecase.hidden_layers(teacher))
    with recorded(pairs, hidden_states) as states:
        for network in (student, teacher):
            torch_predict(usecase, network)(inputs)
    widths = [[each.shape[-1] for each in by_position(states[own], states[other])] for own, other in pairs]
    return nn.ModuleList(nn.Identity() if own == other else nn.Linear(own, other) for own, other in widths)
