"""Parametrized weights: weights that are computed from other tensors while a network learns."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils import parametrize

Values = Tensor | tuple[Tensor, ...]


class ComputedWeight(nn.Module):
    """A parametrization (torch.nn.utils.parametrize) made of functions.

    Args:
        compute: computes the weight from the tensors that learn in its place.
        start: computes the initial values of these tensors from the present weight; None: the weight itself learns.
        constants: further arguments of `compute`; they are part of the network's state and move to its device.
    """

    def __init__(self, compute: Callable[..., Tensor], start: Callable[[Tensor], Values] | None = None, **constants: Tensor) -> None:
        super().__init__()
        self.compute, self.start = compute, start
        for name, constant in constants.items():
            self.register_buffer(name, constant)

    def forward(self, *learnt: Tensor) -> Tensor:
        return self.compute(*learnt, **dict(self.named_buffers(recurse=False)))

    def right_inverse(self, weight: Tensor) -> Values:
        if self.start is None:
            raise NotImplementedError  # by which torch detects that there is no inverse
        return self.start(weight)


def make_plain(network: nn.Module) -> None:
    """Replace all parametrized weights by plain parameters with their present values."""
    for layer in list(network.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
