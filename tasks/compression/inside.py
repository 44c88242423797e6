"""What a student and its teacher have in mind on the way to an answer: hidden states (FitNets, Romero 2015) and attention (TinyBERT, Jiao 2020)."""

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

PROJECTIONS = "projections"  # of the network while it is taught, so that they are optimised and resumed like the rest of it
PROBED = 2  # examples
T = TypeVar("T")
Look = Callable[[nn.Module, Any, Any], Tensor]
"""What is to be seen of a layer: of itself, its inputs and its output."""


def teach_inside(learner: Learner, teacher: nn.Module, hidden: float, attention: float) -> None:
    """Add to the loss how far the student's hidden states and attention are from its teacher's, by these weights.

    Where the states' widths differ, the network gets linear projections; they must be taken out in the end (`forget`).

    Raises:
        SettingError: the use case names no such layers of the network.
    """
    usecase, network, answers = learner.usecase, learner.network, learner.loss
    compared = isinstance(usecase, HasHiddenStates)
    for weight, name, layers in (
        (hidden, "hidden", usecase.hidden_layers(network) if compared else []),
        (attention, "attention", usecase.attention_layers(network) if compared else []),
    ):
        if weight and not layers:
            raise SettingError(
                f"--distillation.{name} {weight:g}: this network of {usecase.name} has none that could be compared. Leave it 0."
            )
    assert isinstance(usecase, HasHiddenStates)
    if hidden:
        inputs = usecase.calibration_inputs(learner.data, np.arange(PROBED))
        network.add_module(PROJECTIONS, projections(usecase, network, teacher, inputs))

    def loss(student: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return inside_loss(usecase, student, teacher, batch, lambda: answers(student, batch), hidden, attention)

    learner.loss = loss


def forget(network: nn.Module) -> None:
    """Take the projections out."""
    if hasattr(network, PROJECTIONS):
        delattr(network, PROJECTIONS)


def inside_loss(
    usecase: HasHiddenStates,
    student: nn.Module,
    teacher: nn.Module,
    batch: dict[str, Tensor],
    answers: Callable[[], Tensor],
    hidden: float,
    attention: float,
) -> Tensor:
    """The loss of `answers`, which runs both networks, each once on the same inputs, and by weight what they differ in inside."""
    states = matched(usecase.hidden_layers(student), usecase.hidden_layers(teacher)) if hidden else []
    maps = matched(usecase.attention_layers(student), usecase.attention_layers(teacher)) if attention else []
    with watched(states, output_of) as seen_states, watched(maps, weights_of) as seen_maps:
        loss = answers()
    known, device = usecase.padding_mask(student, batch), loss.device.type
    with torch.autocast(device, enabled=False):
        if states:
            through = cast(Sequence[nn.Module], getattr(student, PROJECTIONS, [nn.Identity()] * len(states)))
            apart = [
                state_distance(project, seen_states[own], seen_states[theirs], known)
                for project, (own, theirs) in zip(through, states, strict=True)
            ]
            loss = loss + hidden * torch.stack(apart).mean()
        if maps:
            loss = loss + attention * torch.stack([map_distance(seen_maps[own], seen_maps[theirs], known) for own, theirs in maps]).mean()
    return loss


def matched(own: Sequence[T], theirs: Sequence[T]) -> list[tuple[T, T]]:
    """Each layer beside one of the teacher's, evenly spread, the last beside the last."""
    return [(layer, theirs[max(0, round((place + 1) * len(theirs) / len(own)) - 1)]) for place, layer in enumerate(own)]


@contextmanager
def watched(pairs: Sequence[tuple[nn.Module, nn.Module]], look: Look) -> Iterator[dict[nn.Module, Tensor]]:
    """What is to be seen of each layer when it runs, until the block ends: copies of a network made later carry no hooks."""
    seen: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        seen[layer] = look(layer, inputs, output)

    hooks = [layer.register_forward_hook(note) for layer in {layer for pair in pairs for layer in pair}]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def output_of(layer: nn.Module, inputs: Any, output: Any) -> Tensor:
    """Recurrent layers, and some of transformers, return more than their states."""
    return output[0] if isinstance(output, tuple) else output


def weights_of(layer: nn.Module, inputs: Any, output: Any) -> Tensor:
    """Computed a second time, since the fast way to the output never has them as a whole."""
    return cast(Any, layer).weights(*inputs)


def state_distance(project: nn.Module, own: Tensor, theirs: Tensor, known: Tensor | None) -> Tensor:
    """The mean squared distance of states normalised to mean 0 and variance 1: 0 for the same, 2 for unrelated ones, whatever the width.

    Args:
        project: from the student's width to the teacher's.
        own: [B, D], [B, L, D] or [B, D, H, W]; so `theirs`, detached.
        known: the places that count, bool [B, L]; None: all.
    """
    found, wanted = by_place(own, theirs)
    found = project(found.float())
    difference = F.layer_norm(found, found.shape[-1:]) - F.layer_norm(wanted.float(), wanted.shape[-1:])
    return mean_over(difference.square().mean(-1), known)


def map_distance(own: Tensor, theirs: Tensor, known: Tensor | None) -> Tensor:
    """The Kullback-Leibler distance of what each place looks at, [B, heads, Q, L] each, in nats; pruned heads compare by their mean."""
    if own.shape[1] != theirs.shape[1]:
        own, theirs = own.mean(1, keepdim=True), theirs.mean(1, keepdim=True)
    smallest = torch.finfo(torch.float32).tiny
    return mean_over(F.kl_div(own.float().clamp_min(smallest).log(), theirs.float(), reduction="none").sum(3).mean(1), known)


def by_place(own: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of each place last; feature maps [B, D, H, W] are pooled to the smaller of the two first: [B, H * W, D]."""
    if own.ndim < 4:
        return own, theirs
    size = min(own.shape[2], theirs.shape[2]), min(own.shape[3], theirs.shape[3])
    pooled = (maps if maps.shape[2:] == size else F.adaptive_avg_pool2d(maps, size) for maps in (own, theirs))
    one, other = (maps.flatten(2).transpose(1, 2) for maps in pooled)
    return one, other


def mean_over(distance: Tensor, known: Tensor | None) -> Tensor:
    """Of the places that are known; 0 where none is."""
    return distance.mean() if known is None else (distance * known).sum() / known.sum().clamp(min=1)


def projections(usecase: UseCase, student: nn.Module, teacher: nn.Module, inputs: Arrays) -> nn.ModuleList:
    """Linear layers from the width of each of the student's layers to that of the teacher's beside it; nothing where they are the same."""
    assert isinstance(usecase, HasHiddenStates), usecase.name
    pairs = matched(usecase.hidden_layers(student), usecase.hidden_layers(teacher))
    with watched(pairs, output_of) as seen:
        for network in (student, teacher):
            torch_predict(usecase, network)(inputs)
    widths = [[states.shape[-1] for states in by_place(seen[own], seen[theirs])] for own, theirs in pairs]
    return nn.ModuleList(nn.Identity() if own == theirs else nn.Linear(own, theirs) for own, theirs in widths)
