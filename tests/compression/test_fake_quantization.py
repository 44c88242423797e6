"""Fake quantisation rounds as ONNX Runtime does."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization.quant_utils import quantize_data
from torch import Tensor, nn

from tasks.compression.fake_quantization import FakeQuantizedInput, fake_quantize_layers, fake_quantize_weight, remove_fake_quantization


def rounded_by_onnxruntime(weight: Tensor) -> Tensor:
    rows = [quantize_data(row.numpy().ravel(), onnx.TensorProto.INT8, symmetric=True) for row in weight]
    codes = [torch.from_numpy(row.astype(np.float32) * scale) for _, scale, row in rows]
    return torch.stack(codes).view(weight.shape)


@pytest.fixture
def weight() -> Tensor:
    weight = torch.randn(6, 8, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 3, 6).view(-1, 1, 1, 1)
    weight[3] = 0
    return weight


def test_weights_are_rounded_as_by_onnxruntime_and_do_not_change_when_quantised(weight: Tensor) -> None:
    rounded = fake_quantize_weight(weight, 8)
    torch.testing.assert_close(rounded, rounded_by_onnxruntime(weight), rtol=1e-6, atol=0)
    assert torch.equal(rounded_by_onnxruntime(rounded), rounded)
    folded = rounded * torch.tensor([1.7, -0.3, 1e-3, 1.0, -12.0, 0.9]).view(-1, 1, 1, 1)
    torch.testing.assert_close(rounded_by_onnxruntime(folded), folded, rtol=1e-6, atol=0)


def test_few_bits_are_few_values_and_the_gradient_passes(weight: Tensor) -> None:
    weight.requires_grad_()
    rounded = fake_quantize_weight(weight, 3)
    assert max(len(row.unique()) for row in rounded) == 2**3 - 1
    rounded.sum().backward()
    assert weight.grad is not None and (weight.grad == 1).all()


def test_inputs_are_rounded_within_their_running_range() -> None:
    layer = nn.Linear(1, 1)
    rounding = FakeQuantizedInput(layer)
    rounding(torch.tensor([1.0, 4.0]))
    assert (float(rounding.low), float(rounding.high)) == (0.0, 4.0), "the range always contains zero"
    rounding(torch.tensor([-2.0, 4.0]))
    assert float(rounding.low) == pytest.approx(-0.02)
    rounding.eval()
    x = torch.linspace(-1, 5, 1000, requires_grad=True)
    seen = rounding(x)
    inside = (x > rounding.low) & (x < rounding.high)
    assert (seen - x)[inside].abs().max() <= 4.02 / 255 / 2 + 1e-6
    assert seen.max() <= 4.02 and seen.min() >= -0.03
    seen.sum().backward()
    assert x.grad is not None and (x.grad[x > 4.1] == 0).all() and (x.grad[inside] == 1).all()


def small_network() -> tuple[nn.Sequential, nn.Conv2d]:
    convolution = nn.Conv2d(3, 8, 3)
    return nn.Sequential(convolution, nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 16, 4)), convolution


def test_the_final_network_is_plain_with_rounded_weights() -> None:
    torch.manual_seed(0)
    network, convolution = small_network()
    plain, kept_convolution = small_network()
    with torch.no_grad():
        convolution.weight[:, 1] = 0
    assert fake_quantize_layers(network, 8) == 2
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(3):
        network(torch.randn(16, 3, 6, 6)).square().sum().backward()
        optimizer.step()
    kept, x = copy.deepcopy(network).eval(), torch.randn(16, 3, 6, 6)  # a copy, as for a moving average
    remove_fake_quantization(kept)
    plain.load_state_dict(kept.state_dict())
    with torch.no_grad():
        assert torch.equal(kept(x), plain.eval()(x)), "inputs are not rounded any more"
        assert torch.equal(kept_convolution.weight, rounded_by_onnxruntime(kept_convolution.weight))
        assert not kept_convolution.weight[:, 1].any(), "zeros stay zero"
