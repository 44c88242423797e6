"""Structured pruning: the least important channels, hidden units and attention heads are removed (DepGraph, Fang 2023)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from tasks.compression.distillation import add_distillation_loss
from tasks.compression.method import Method, Train
from tasks.contract.artifacts import Artifact, Checkpoint, Dataset
from tasks.contract.errors import SettingError
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch_pruning.dependency import Group

    from tasks.training.learner import Learner

MIN_CHANNELS = 16  # of a layer, which keeps a multiple of them: AVX-512 computes 16 at a time, and see `usecases.convolutions`
TRACED = 2  # examples with which the network is traced
LEAVE = "Leave prune out of --compression.methods; a student or smaller settings make such a network smaller."
CHANNELWISE = re.compile(  # operations, by autograd's names, that treat every channel alike and independently of the others
    "Add|Addmm|Alias|Amax|AvgPool2D|AdaptiveAvgPool2D|Clone|ConstantPadNd|Div|Elu|Gelu|Hardsigmoid|Hardswish|Hardtanh|LeakyRelu|"
    "MaxPool2DWithIndices|Mean|Mish|MkldnnAdaptiveAvgPool2D|Mm|Mul|Relu|Sigmoid|Silu|Softplus|Sub|T|Tanh|UpsampleBicubic2D|"
    "UpsampleBilinear2D|UpsampleNearest2D"
)
HEADWISE = re.compile("Permute|ScaledDotProduct.*|Select|Transpose|Unbind")  # further operations of multi-head attention


class StructuredPruning(Technique):
    """Fine-tuning of a pruned network, distilled from the network before pruning.

    The use case has to be `Distillable` for distillation; otherwise the usual loss is used.
    """

    trained: Checkpoint = Field(description="the network to prune")
    teacher: Checkpoint = Field(description="the network before pruning; in the first of several rounds the same as `trained`")
    share: float = Field(gt=0, lt=1, description="share of the channels, hidden units and heads of each layer to remove")
    weight: float = Field(
        default=0.5, ge=0, le=1, description="weight of the distance to the teacher's predictions in the loss; the targets have the rest"
    )
    temperature: float = Field(
        default=1.0, gt=0, description="temperature of the softmax of teacher and student; above 1, small differences count for more"
    )

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,) if self.trained == self.teacher else (self.trained, self.teacher)

    def before(self, learner: Learner) -> None:
        import torch

        from tasks.training.batches import as_tensors
        from tasks.training.checkpoints import load_network, load_weights

        usecase, network = learner.usecase, learner.network
        load_weights(network, self.trained)
        inputs = as_tensors(usecase.calibration_inputs(learner.data, np.arange(TRACED)))
        prune_channels(usecase.predictor(network), [inputs[name] for name in usecase.input_names], self.share)
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        add_distillation_loss(learner, load_network(self.teacher), self.weight, self.temperature)


class Pruning(Method):
    """Structured pruning: the least important channels, hidden units and attention heads are removed.

    DepGraph, Fang 2023. The network recovers with the unpruned one as its teacher.
    """

    gain: ClassVar[str] = "faster and smaller on every processor"
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        description="shares of the channels, hidden units and heads of each layer to choose from; the search removes the largest within the "
        "budget of quality",
    )
    rounds: int = Field(default=1, ge=1, description="rounds of pruning and fine-tuning in which each share is reached")

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(sorted(self.shares))

    def label(self, level: float) -> str:
        return f"pruned {100 * level:g} %"

    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        return StructuredPruning(trained=trained, teacher=whole, share=level)

    def make(self, trained: Checkpoint, whole: Checkpoint, level: float, train: Train) -> Checkpoint:
        for _ in range(self.rounds):
            trained = train(self.technique(trained, whole, 1 - (1 - level) ** (1 / self.rounds)))
        return trained

    def is_applicable(self, trained: Checkpoint, dataset: Dataset) -> bool:
        return is_prunable(trained, dataset)


def is_prunable(checkpoint: Checkpoint, dataset: Dataset) -> bool:
    """Whether `prune_channels` could remove anything from a trained network."""
    from tasks.training.batches import as_tensors
    from tasks.training.checkpoints import load_network

    usecase = checkpoint.usecase
    inputs = as_tensors(usecase.calibration_inputs(dataset.folder, np.arange(TRACED)))
    graph = dependencies(usecase.predictor(load_network(checkpoint)), [inputs[name] for name in usecase.input_names])
    return bool(prunable_groups(graph))


def prune_channels(network: nn.Module, inputs: list[Tensor], share: float) -> None:
    """Remove the channels, hidden units and heads with the smallest L2 norm from each layer, in place.

    Layers that depend on one another lose the same channels. Inputs, outputs, embeddings, recurrent layers and the residual stream of a
    transformer keep their shapes. Each layer keeps at least `MIN_CHANNELS` channels, and a multiple of them, or one head.

    Args:
        network: takes `inputs` as positional arguments and returns a tensor or a tuple of tensors.
        inputs: example inputs, with which the dependencies of layers are traced.
        share: share to remove from each layer, in (0, 1).

    Raises:
        SettingError: nothing can be pruned, or the forward pass depends on the sizes of its layers.
    """
    was_training, before = network.training, shapes(network, inputs)
    graph = dependencies(network, inputs)
    taken = [(root, least_important(scores, share, unit)) for root, scores, unit in prunable_groups(graph)]
    if not any(channels for _, channels in taken):
        raise SettingError(why_not_prunable(network, share, bool(taken)))
    for root, channels in taken:
        if channels:
            graph.get_pruning_group(root.target.module, root.handler, channels).prune()
    try:
        after = shapes(network, inputs)
    except RuntimeError as error:
        raise SettingError(
            f"This network cannot be pruned, since its forward pass depends on the sizes of its layers ({error}). {LEAVE}"
        ) from error
    assert after == before, (before, after)
    network.train(was_training)


def dependencies(network: nn.Module, inputs: list[Tensor]) -> Any:
    """The dependency graph of torch-pruning: which layers share channels, found in autograd's graph of a forward pass."""
    import torch
    import torch_pruning
    from torch import nn
    from torch_pruning.ops import DummyPruner

    recurrent = dict.fromkeys((nn.LSTM, nn.GRU, nn.RNN), DummyPruner())  # never pruned
    with torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(
            network,
            tuple(inputs),
            # multiplied, every output has a node of its own in the graph, even if another output is computed from it
            output_transform=lambda found: [output * 1 for output in as_tuple(found) if output.grad_fn is not None],
            customized_pruners=recurrent,  # pyright: ignore[reportArgumentType]
            verbose=False,
        )


def prunable_groups(graph: Any) -> list[tuple[Any, Tensor, int]]:
    """The groups of layers that can be pruned together.

    Returns:
        For each group its first layer, the importance of its channels [C], and how many neighbours are removed together (those of a head).
    """
    import torch_pruning
    from torch import nn

    importance, found = torch_pruning.importance.GroupMagnitudeImportance(p=2), []
    for group in graph.get_all_groups(root_module_types=(nn.modules.conv._ConvNd, nn.Linear)):
        heads, size = head_shape(group)
        if not is_internal(group, headwise=heads > 0):
            continue
        if heads:
            group = group_from_query(graph, group, heads * size)
        if group is not None and (scores := importance(group)) is not None:
            found.append((group[0].dep, scores, size))
    return found


def head_shape(group: Group) -> tuple[int, int]:
    """The number of attention heads that a group's channels are split into, and the channels of each; 0 and 1 without attention."""
    for dep, _ in group:
        if (query := getattr(dep.target.grad_fn, "_saved_query", None)) is not None:
            return query.shape[1], query.shape[3]
    return 0, 1


def group_from_query(graph: Any, group: Group, channels: int) -> Group | None:
    """The same group, seen from the layer that computes the queries.

    A layer that computes keys and values together has each channel twice, which would count its importance twice.

    Args:
        graph: of `dependencies`.
        group: a group with attention.
        channels: the number of channels of all heads.

    Returns:
        The group; None if no layer has just these channels.
    """
    for dep, _ in group:
        if getattr(dep.target.module, "out_features", 0) == channels and graph.is_out_channel_pruning_fn(dep.handler):
            return graph.get_pruning_group(dep.target.module, dep.handler, list(range(channels)))
    return None


def is_internal(group: Group, headwise: bool) -> bool:
    """Whether the channels of a group are internal: only convolutions, linear layers and batch norms have them, and all are treated alike."""
    from torch_pruning.ops import OPTYPE

    layers = {OPTYPE.CONV, OPTYPE.DEPTHWISE_CONV, OPTYPE.LINEAR, OPTYPE.BN, OPTYPE.CONCAT, OPTYPE.RESHAPE}
    if any(dep.target.type is OPTYPE.CONV and dep.target.module.groups > 1 for dep, _ in group):
        return False  # torch-pruning would mix up the channels of a grouped convolution's groups
    names = [operation(dep.target) for dep, _ in group if dep.target.type not in layers]
    return all(CHANNELWISE.fullmatch(name) or (headwise and HEADWISE.fullmatch(name)) for name in names)


def operation(node: Any) -> str:
    """Autograd's name of an operation, such as Relu; empty for layers."""
    from torch_pruning.ops import OPTYPE

    if node.type not in (OPTYPE.ELEMENTWISE, OPTYPE.UNBIND):
        return ""
    return re.sub(r"Backward\d*$", "", node.grad_fn.name())


def least_important(scores: Tensor, share: float, unit: int = 1) -> list[int]:
    """The channels to remove.

    Args:
        scores: importance of each channel [C].
        share: share of the channels to remove, in (0, 1).
        unit: number of neighbouring channels that are removed together, those of a head.

    Returns:
        Indices of channels, ascending.
    """
    import torch

    units, step = scores.view(-1, unit).sum(1), MIN_CHANNELS if unit == 1 else 1
    kept = min(len(units), max(step, round(len(units) * (1 - share) / step) * step))
    taken = units.argsort(stable=True)[: len(units) - kept].sort().values
    return (taken[:, None] * unit + torch.arange(unit)).flatten().tolist()


def shapes(network: nn.Module, inputs: list[Tensor]) -> list[tuple[int, ...]]:
    """The shapes of a network's outputs."""
    import torch

    with torch.no_grad():
        return [tuple(output.shape) for output in as_tuple(network.eval()(*inputs))]


def as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def why_not_prunable(network: nn.Module, share: float, small: bool) -> str:
    """The error message for a network of which nothing can be pruned.

    Args:
        network: the network.
        share: the share that should be removed.
        small: whether there are groups of layers that could be pruned, but all are too small.

    Returns:
        The reason, and what to do next.
    """
    from torch import nn

    if small:
        why = f"each layer keeps a multiple of {MIN_CHANNELS} channels, rounded, and no layer of this network has enough of them"
    elif any(isinstance(module, nn.RNNBase) for module in network.modules()):
        why = "recurrent layers are not pruned, and this network has no other internal layers"
    else:
        why = "this network has no internal convolutions or linear layers whose channels no other operation needs"
    return f"A share of {share:.2g} cannot be pruned: {why}. {LEAVE}"
