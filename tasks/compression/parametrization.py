"""Weights that are computed from something else while a network learns."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils import parametrize

Values = Tensor | tuple[Tensor, ...]


class Computed(nn.Module):
    """A parametrization (torch.nn.utils.parametrize) made of functions.

    Args:
        compute: the weight from what learns in its place.
        start: what learns, from the weight as it is; None: the weight itself.
        constants: given to `compute` by name; they are part of the network's state and move to its device.
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
            raise NotImplementedError  # torch's way of saying so
        return self.start(weight)


def make_plain(network: nn.Module) -> None:
    """Keep weights as they are computed, as plain parameters."""
    for layer in list(network.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
