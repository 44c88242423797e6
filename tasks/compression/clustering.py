"""Weight clustering: the weights of a layer share few values, a codebook, which learn on (Deep Compression, Han 2016)."""

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

MAX_ROUNDS = 300  # of k-means
MIN_WEIGHTS = 8  # for each value of a codebook: in a smaller layer the codebook would be a good part of what is stored
MAX_BITS = 8


# -- the maths --------------------------------------------------------------------------------------------------------
def cluster(weight: Tensor, values: int) -> tuple[Tensor, Tensor]:
    """The codebook, ascending [values], and for each weight the place of its value, int64 of the weight's shape, by k-means.

    Values are at first evenly spaced from the smallest to the largest weight, which keeps the few large weights (Han 2016). There is no
    chance in it: the same weight gives the same clusters.
    """
    import torch

    flat = weight.detach().double().flatten()
    ordered = flat.sort().values  # on a line clusters are neighbours: sums of them are differences of running sums
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
    """The weight, of the shape of `places`. The gradient of a value is the sum of those of the weights that share it."""
    return codebook.index_select(0, places.flatten()).view(places.shape)


def share_values(network: nn.Module, bits: int) -> int:
    """Let the weights of convolutions and linear layers be looked up in codebooks of 2^bits values from now on. Returns how many layers do.

    Weights of zero stay so, and zero is one of the values. Left alone are small layers and those of low rank, which is stored as two thin
    matrices: sharing values would end it.
    """
    import torch
    from torch.nn.utils import parametrize

    from tasks.compression.masks import hold, weighty_layers
    from tasks.compression.parametrization import Computed
    from tasks.exporting.low_rank import thin_factors

    shared = 0
    for layer in list(weighty_layers(network)):
        weight, kept = layer.weight.detach(), layer.weight.detach() != 0
        values = 2**bits - (0 if kept.all() else 1)
        is_thin = isinstance(layer, torch.nn.Linear) and thin_factors(weight.cpu().numpy()) is not None
        if int(kept.sum()) < MIN_WEIGHTS * 2**bits or is_thin:
            continue
        codebook, places = cluster(weight[kept], values)
        everywhere = torch.zeros_like(weight, dtype=torch.int64).masked_scatter_(kept, places)
        parametrize.register_parametrization(layer, "weight", Computed(look_up, lambda weight, values=codebook: values, places=everywhere))
        if not kept.all():
            hold(layer, kept)
        shared += 1
    return shared


# -- the hook ---------------------------------------------------------------------------------------------------------
class SharedValues(Technique):
    """Training goes on with a trained network whose layers look their weights up in codebooks, which learn in their place.

    The result is a plain network whose layers have few distinct weights; the exporter finds them and stores a byte for each.
    """

    trained: Checkpoint
    bits: int = Field(ge=1, le=MAX_BITS, description="of a weight's place in the codebook")

    def inputs(self) -> tuple[Artifact, ...]:
        return (self.trained,)

    def gain(self) -> str:
        return f"{2**self.bits} values for the weights of a layer: smaller when stored and sent, no faster"

    def before(self, learner: Learner) -> None:
        from tasks.training.checkpoints import load_weights

        load_weights(learner.network, self.trained)
        if not share_values(learner.network, self.bits):
            raise SettingError(f"cluster: this network has no layer that {2**self.bits} values would make smaller. Leave it out.")

    def after(self, network: nn.Module) -> None:
        from tasks.compression.parametrization import make_plain

        make_plain(network)


class Clustering(Method):
    """Weight clustering: codebooks of few values for the weights of each layer, fine-tuned.

    Han 2016. Weights are stored as places in the codebook and packed; ONNX Runtime looks them up once, when it opens the graph.
    """

    gain: ClassVar[str] = "stored and sent smaller, also on top of int8; no faster"
    only_stored: ClassVar[bool] = True
    bits: tuple[Annotated[int, Field(ge=1, le=MAX_BITS)], ...] = Field(
        default=(5, 4, 3),
        description="bits of a place in the codebook, of which the fewest that the budget of quality allows are looked for",
    )

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(sorted(self.bits, reverse=True))

    def label(self, level: float) -> str:
        return f"clustered {level:g} bits"

    def step(self, name: str, level: float) -> str:
        return f"{name} {level:g} bits"

    def technique(self, trained: Checkpoint, whole: Checkpoint, level: float) -> Technique:
        return SharedValues(trained=trained, bits=int(level))
