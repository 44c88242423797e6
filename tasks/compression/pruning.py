"""A network loses its least important channels, hidden units and attention heads for good, and learns on (DepGraph, Fang 2023)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from tasks.compression.distillation import teach
from tasks.compression.method import Method, Train
from tasks.contract.artifacts import Artifact, Checkpoint, Dataset
from tasks.contract.errors import SettingError
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch_pruning.dependency import Group

    from tasks.training.learner import Learner

LEAST = (
    16  # channels that a layer keeps, and it keeps a multiple of them: AVX-512 goes over so many at once, and see `usecases.convolutions`
)
TRACED = 2  # examples
LEAVE = "Leave prune out of --compression.methods; a student or smaller settings make such a network smaller."
ALIKE = re.compile(  # operations in autograd's terms that do the same to every channel, whatever the others are
    "Add|Addmm|Alias|Amax|AvgPool2D|AdaptiveAvgPool2D|Clone|ConstantPadNd|Div|Elu|Gelu|Hardsigmoid|Hardswish|Hardtanh|LeakyRelu|"
    "MaxPool2DWithIndices|Mean|Mish|MkldnnAdaptiveAvgPool2D|Mm|Mul|Relu|Sigmoid|Silu|Softplus|Sub|T|Tanh|UpsampleBicubic2D|"
    "UpsampleBilinear2D|UpsampleNearest2D"
)
HEADWISE = re.compile("Permute|ScaledDotProduct.*|Select|Transpose|Unbind")  # those that attention of several heads needs besides


class StructuredPruning(Technique):
    """Training goes on with what pruning leaves of a trained network, taught by the whole one where the use case can compare the two."""

    trained: Checkpoint = Field(description="what is pruned")
    teacher: Checkpoint = Field(description="the whole network; in the first round of several the same")
    share: float = Field(gt=0, lt=1, description="of the channels, hidden units and heads of each layer")
    weight: float = Field(default=0.5, ge=0, le=1, description="of the teacher's opinion in the loss; the rest is what was observed")
    temperature: float = Field(default=1.0, gt=0, description="above 1 the teacher's small differences count for more")

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
        teach(learner, load_network(self.teacher), self.weight, self.temperature)


class Pruning(Method):
    """Structured pruning: the least important channels, hidden units and attention heads are removed.

    DepGraph, Fang 2023; the network recovers with the whole one as its teacher.
    """

    gain: ClassVar[str] = "faster and smaller on every processor"
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        description="shares of the channels, hidden units and heads of each layer, of which the largest that the budget of quality allows is "
        "looked for",
    )
    rounds: int = Field(default=1, ge=1, description="rounds of removing some and recovering, for each share")

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
    """Whether there is anything in a trained network that `prune_channels` could take away."""
    from tasks.training.batches import as_tensors
    from tasks.training.checkpoints import load_network

    usecase = checkpoint.usecase
    inputs = as_tensors(usecase.calibration_inputs(dataset.folder, np.arange(TRACED)))
    graph = dependencies(usecase.predictor(load_network(checkpoint)), [inputs[name] for name in usecase.input_names])
    return bool(removable(graph))


def prune_channels(network: nn.Module, inputs: list[Tensor], share: float) -> None:
    """Take a `share` of the channels, hidden units and heads of each layer away, in place: those with the smallest L2 norm.

    Layers that depend on one another lose the same channels. Outputs keep their shapes; so do inputs, embeddings, recurrent layers
    and the stream between a Transformer's blocks. At least `LEAST` channels, and a multiple of them, or one head remain of each layer.

    Args:
        network: gets `inputs` one by one and returns a tensor or a tuple of them.

    Raises:
        SettingError: nothing can be pruned, or the network looks at the sizes of its own layers.
    """
    was_training, before = network.training, shapes(network, inputs)
    graph = dependencies(network, inputs)
    taken = [(root, least_important(scores, share, unit)) for root, scores, unit in removable(graph)]
    if not any(channels for _, channels in taken):
        raise SettingError(in_words(network, share, bool(taken)))
    for root, channels in taken:
        if channels:
            graph.get_pruning_group(root.target.module, root.handler, channels).prune()
    try:
        after = shapes(network, inputs)
    except RuntimeError as error:
        raise SettingError(f"A network that looks at the sizes of its own layers is not pruned ({error}). {LEAVE}") from error
    assert after == before, (before, after)
    network.train(was_training)


def dependencies(network: nn.Module, inputs: list[Tensor]) -> Any:
    """Which layers share channels, told from autograd's graph of a forward pass."""
    import torch
    import torch_pruning
    from torch import nn
    from torch_pruning.ops import DummyPruner

    recurrent = dict.fromkeys((nn.LSTM, nn.GRU, nn.RNN), DummyPruner())  # left alone
    with torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(
            network,
            tuple(inputs),
            # a product of its own marks every output as one, even where another output is computed from it
            output_transform=lambda found: [output * 1 for output in as_tuple(found) if output.grad_fn is not None],
            customized_pruners=recurrent,  # pyright: ignore[reportArgumentType]
            verbose=False,
        )


def removable(graph: Any) -> list[tuple[Any, Tensor, int]]:
    """What can lose channels: the first layer of those that share them, the channels' importance [C], and how many go together."""
    import torch_pruning
    from torch import nn

    importance, found = torch_pruning.importance.GroupMagnitudeImportance(p=2), []
    for group in graph.get_all_groups(root_module_types=(nn.modules.conv._ConvNd, nn.Linear)):
        heads, size = head_shape(group)
        if not is_hidden(group, headwise=heads > 0):
            continue
        if heads:
            group = seen_from_query(graph, group, heads * size)
        if group is not None and (scores := importance(group)) is not None:
            found.append((group[0].dep, scores, size))
    return found


def head_shape(group: Group) -> tuple[int, int]:
    """How many heads of attention the channels go through, and of how many channels each is; 0 and 1 where there is no attention."""
    for dep, _ in group:
        if (query := getattr(dep.target.grad_fn, "_saved_query", None)) is not None:
            return query.shape[1], query.shape[3]
    return 0, 1


def seen_from_query(graph: Any, group: Group, channels: int) -> Group | None:
    """The same group from a layer that makes each head's channels once; one that makes keys and values together would count them twice."""
    for dep, _ in group:
        if getattr(dep.target.module, "out_features", 0) == channels and graph.is_out_channel_pruning_fn(dep.handler):
            return graph.get_pruning_group(dep.target.module, dep.handler, list(range(channels)))
    return None


def is_hidden(group: Group, headwise: bool) -> bool:
    """Whether nothing but convolutions, linear layers and batch norms have these channels, and nothing tells one from another."""
    from torch_pruning.ops import OPTYPE

    layers = {OPTYPE.CONV, OPTYPE.DEPTHWISE_CONV, OPTYPE.LINEAR, OPTYPE.BN, OPTYPE.CONCAT, OPTYPE.RESHAPE}
    if any(dep.target.type is OPTYPE.CONV and dep.target.module.groups > 1 for dep, _ in group):
        return False  # torch-pruning would leave a convolution of several groups with others' channels
    names = [operation(dep.target) for dep, _ in group if dep.target.type not in layers]
    return all(ALIKE.fullmatch(name) or (headwise and HEADWISE.fullmatch(name)) for name in names)


def operation(node: Any) -> str:
    """In autograd's terms, such as Relu; empty for layers."""
    from torch_pruning.ops import OPTYPE

    if node.type not in (OPTYPE.ELEMENTWISE, OPTYPE.UNBIND):
        return ""
    return re.sub(r"Backward\d*$", "", node.grad_fn.name())


def least_important(scores: Tensor, share: float, unit: int = 1) -> list[int]:
    """Which of the channels [C] to take, `unit` neighbours at a time."""
    import torch

    units, step = scores.view(-1, unit).sum(1), LEAST if unit == 1 else 1
    kept = min(len(units), max(step, round(len(units) * (1 - share) / step) * step))
    taken = units.argsort(stable=True)[: len(units) - kept].sort().values
    return (taken[:, None] * unit + torch.arange(unit)).flatten().tolist()


def shapes(network: nn.Module, inputs: list[Tensor]) -> list[tuple[int, ...]]:
    import torch

    with torch.no_grad():
        return [tuple(output.shape) for output in as_tuple(network.eval()(*inputs))]


def as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def in_words(network: nn.Module, share: float, small: bool) -> str:
    """Why nothing is pruned."""
    from torch import nn

    if small:
        why = f"every layer keeps {LEAST} channels, or a multiple of them nearest to what is asked for, and this network has no more"
    elif any(isinstance(module, nn.RNNBase) for module in network.modules()):
        why = "recurrent layers are not pruned, and this network has no others inside"
    else:
        why = "this network has no convolutions or linear layers inside whose channels nothing else needs"
    return f"A share of {share:.2g} cannot be taken away: {why}. {LEAVE}"
