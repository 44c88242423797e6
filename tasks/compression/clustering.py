"""Weight clustering: the weights of a layer share the few values of a codebook, which is fine-tuned (Deep Compression, Han 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from tasks.compression.method import Method
from tasks.contract.artifacts import Artifact, Checkpoint
from tasks.contract.errors import SettingError
from tasks.training.technique import Technique

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tasks.training.learner import Learner

MAX_ROUNDS = 300  # iterations of k-means
MIN_WEIGHTS = 8  # weights per value of a codebook: in smaller layers the codebook would be much of what is stored
MAX_BITS = 8


# -- the maths --------------------------------------------------------------------------------------------------------
def cluster(weight: Tensor, values: int) -> tuple[Tensor, Tensor]:
    """Cluster the entries of a weight by k-means.

    Values are initialised evenly from the smallest to the largest weight, which keeps the few large weights (Han 2016). The result is
    deterministic.

    Args:
        weight: of any shape.
        values: number of clusters.

    Returns:
        The codebook [values], ascending, and the index into it of each weight, int64 of the weight's shape.
    """
    import torch

    flat = weight.detach().double().flatten()
    ordered = flat.sort().values  # in one dimension a cluster is a range of the sorted weights: its sum is a difference of running sums
    running = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    codebook = torch.linspace(float(ordered[0]), float(ordered[-1]), values, dtype=torch.float64, device=flat.device)
    for _ in range(MAX_ROUNDS):
        edges = torch.searchsorted(ordered, (codebook[1:] + codebook[:-1]) / 2)
        edges = torch.cat([edges.new_zeros(1), edges, edges.new_full((1,), len(ordered))])
        counts = edges.diff()
        means = torch.where(counts > 0, running[edges].diff() / counts.clamp(min=1), codebook)
        if torch.equal(means, codebook):
            break
        codebook = means
    places = torch.bucketize(flat, (codebook[1:] + codebook[:-1]) / 2)
    return codebook.to(weight.dtype), places.view(weight.shape)


def look_up(codebook: Tensor, places: Tensor) -> Tensor:
    """The weight for indices into a codebook, of their shape. The gradient of a value is the sum over the weights that share it."""
    return codebook.index_select(0, places.flatten()).view(places.shape)


def cluster_weights(network: nn.Module, bits: int) -> int:
    """Replace the weights of convolutions and linear layers by look-ups in codebooks of 2^bits values, which learn.

    Weights of zero stay zero, and zero is one of the values. Small layers are not clustered. Neither are factorised ones: they are stored as
    two thin matrices, and shared values would raise their rank.

    Returns:
        The number of layers that were clustered.
    """
    import torch
    from torch.nn.utils import parametrize

    from tasks.compression.masks import apply_mask, conv_and_linear_layers
    from tasks.compression.parametrization import ComputedWeight
    from tasks.exporting.low_rank import thin_factors

    shared = 0
    for layer in list(conv_and_linear_layers(network)):
        weight, kept = layer.weight.detach(), layer.weight.detach() != 0
        values = 2**bits - (0 if kept.all() else 1)
        is_thin = isinstance(layer, torch.nn.Linear) and thin_factors(weight.cpu().numpy()) is not None
        if int(kept.sum()) < MIN_WEIGHTS * 2**bits or is_thin:
            continue
        codebook, places = cluster(weight[kept], values)
        everywhere = torch.zeros_like(weight, dtype=torch.int64).masked_scatter_(kept, places)
        parametrize.register_parametrization(
            layer, "weight", ComputedWeight(look_up, lambda weight, values=codebook: values, places=everywhere)
        )
        if not kept.all():
            apply_mask(layer, kept)
        shared += 1
    return shared


# -- the hook ---------------------------------------------------------------------------------------------------------
class WeightClustering(Technique):
    """Fine-tuning of codebooks in place of the weights of a trained network.

    The result is a plain network whose layers have few distinct weights; the exporter detects them and stores a byte for each weight.
    """

    trained: Checkpoint = Field(description="the network to cluster")
    bits: int = Field(ge=1, le=MAX_BITS, description="bits of an index into the codebook")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def gain(self) -> str:
        return f"{2**self.bits} distinct weights per layer: smaller when stored and sent, not faster"

    def before(self, learner: Learner) -> None:
        from tasks.training.checkpoints import load_weights

        load_weights(learner.network, self.trained)
        if not cluster_weights(learner.network, self.bits):
            raise SettingError(
                f"cluster: this network has no layer that a codebook of {2**self.bits} values would make smaller. "
                "Leave cluster out of --compression.methods."
            )

    def after(self, network: nn.Module) -> None:
        from tasks.compression.parametrization import make_plain

        make_plain(network)


class Clustering(Method):
    """Weight clustering: a fine-tuned codebook of few values for the weights of each layer.

    Han 2016. Weights are stored as indices into the codebook, compressed; ONNX Runtime looks them up once, when it opens the graph.
    """

    gain: ClassVar[str] = "smaller when stored and sent, also on top of int8; not faster"
    only_stored: ClassVar[bool] = True
    bits: tuple[Annotated[int, Field(ge=1, le=MAX_BITS)], ...] = Field(
        default=(5, 4, 3),
        description="bits of an index into the codebook to choose from; the search takes the fewest within the budget of quality",
    )

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(sorted(self.bits, reverse=True))

    def label(self, level: float) -> str:
        return f"clustered {level:g} bits"

    def step(self, name: str, level: float) -> str:
        return f"{name} {level:g} bits"

    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        return WeightClustering(trained=trained, bits=int(level))
