"""What int8 does to weights and activations, done in float while a network learns to live with it (Jacob 2018)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tasks.compression.masks import Weighty, hold, weighty_layers
from tasks.compression.parametrization import Computed

MOMENTUM = 0.99  # of the running range of what comes into a layer
LEVELS = 255  # above the lowest, of an activation
INPUT = "rounded_input"  # the name of a layer's module that rounds what comes in


def round_weight(weight: Tensor, bits: int) -> Tensor:
    """The weight [outputs, ...] on a grid of 2^bits - 1 values for each output, symmetric about zero; its gradient passes as if it were not rounded.

    Scales and rounding are those of ONNX Runtime's `quantize_static` with signed weights per channel. A scale or sign that a later
    layer gives an output, such as batch norm when it is folded in, leaves the grid as it is.
    """
    largest = 2 ** (bits - 1) - 1
    scale = (weight.detach().double().flatten(1).abs().amax(1) / largest).float()
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -largest, largest)


class RoundedInput(nn.Module):
    """Rounds activations to 256 values over the range that they usually have; those outside of it learn nothing."""

    def __init__(self, layer: Weighty) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        for name in ("low", "high"):
            self.register_buffer(name, torch.zeros((), device=layer.weight.device))
        self.hook = layer.register_forward_pre_hook(_round_input)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._look_at(x.detach())
        scale = (self.high - self.low) / LEVELS
        scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
        zero = torch.round(-self.low / scale).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, LEVELS)

    def _look_at(self, x: Tensor) -> None:
        """The range has zero in it, and is at first that of the first batch."""
        low, high = (edge.float() for edge in x.aminmax())
        momentum = torch.where(self.high > self.low, MOMENTUM, 0.0)
        self.low.lerp_(low.clamp(max=0), 1 - momentum)
        self.high.lerp_(high.clamp(min=0), 1 - momentum)


def _round_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return layer.get_submodule(INPUT)(inputs[0]), *inputs[1:]


def round_layers(network: nn.Module, bits: int) -> int:
    """Round weights and inputs of every convolution and linear layer from now on; weights of zero stay so. Returns how many layers there are."""
    layers = list(weighty_layers(network))
    for layer in layers:
        if not layer.weight.all():
            hold(layer, layer.weight.detach() != 0)
        parametrize.register_parametrization(layer, "weight", Computed(partial(round_weight, bits=bits)))
        layer.add_module(INPUT, RoundedInput(layer))
    return len(layers)


def keep_rounded(network: nn.Module) -> None:
    """Make the network a plain one whose weights lie on their grids."""
    for layer in list(network.modules()):
        rounded = getattr(layer, INPUT, None)
        if isinstance(rounded, RoundedInput):
            rounded.hook.remove()
            delattr(layer, INPUT)
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
