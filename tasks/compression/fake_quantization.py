"""Fake quantisation: weights and activations are rounded as in int8, but computed in float, during training (Jacob 2018)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tasks.compression.masks import ConvOrLinear, apply_mask, conv_and_linear_layers
from tasks.compression.parametrization import ComputedWeight

MOMENTUM = 0.99  # of the running range of a layer's inputs
LEVELS = 255  # steps between the lowest and the highest value of an activation
INPUT = "rounded_input"  # name of the submodule of a layer that fake-quantises its inputs


def fake_quantize_weight(weight: Tensor, bits: int) -> Tensor:
    """A weight [outputs, ...] rounded to 2^bits - 1 values per output, symmetric about zero, with a straight-through gradient.

    Scales and rounding are those of ONNX Runtime's `quantize_static` with signed weights per channel. A batch norm that is folded into the
    layer scales each output, which does not change the rounding.
    """
    largest = 2 ** (bits - 1) - 1
    scale = (weight.detach().double().flatten(1).abs().amax(1) / largest).float()
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -largest, largest)


class FakeQuantizedInput(nn.Module):
    """Fake-quantises activations to 256 values over their running range; activations outside of it are clipped and have no gradient."""

    def __init__(self, layer: ConvOrLinear) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        for name in ("low", "high"):
            self.register_buffer(name, torch.zeros((), device=layer.weight.device))
        self.hook = layer.register_forward_pre_hook(_round_input)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._observe(x.detach())
        scale = (self.high - self.low) / LEVELS
        scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
        zero = torch.round(-self.low / scale).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, LEVELS)

    def _observe(self, x: Tensor) -> None:
        """Update the running range, which always contains zero and starts with the range of the first batch."""
        low, high = (edge.float() for edge in x.aminmax())
        momentum = torch.where(self.high > self.low, MOMENTUM, 0.0)
        self.low.lerp_(low.clamp(max=0), 1 - momentum)
        self.high.lerp_(high.clamp(min=0), 1 - momentum)


def _round_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return layer.get_submodule(INPUT)(inputs[0]), *inputs[1:]


def fake_quantize_layers(network: nn.Module, bits: int) -> int:
    """Fake-quantise the weights and inputs of every convolution and linear layer; weights of zero stay zero.

    Returns:
        The number of these layers.
    """
    layers = list(conv_and_linear_layers(network))
    for layer in layers:
        if not layer.weight.all():
            apply_mask(layer, layer.weight.detach() != 0)
        parametrize.register_parametrization(layer, "weight", ComputedWeight(partial(fake_quantize_weight, bits=bits)))
        layer.add_module(INPUT, FakeQuantizedInput(layer))
    return len(layers)


def remove_fake_quantization(network: nn.Module) -> None:
    """Remove fake quantisation: weights become plain parameters with their rounded values, and inputs are no longer rounded."""
    for layer in list(network.modules()):
        rounded = getattr(layer, INPUT, None)
        if isinstance(rounded, FakeQuantizedInput):
            rounded.hook.remove()
            delattr(layer, INPUT)
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
