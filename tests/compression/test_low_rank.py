"""Low-rank factorisation: compared with the definition, and as the exporter detects it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from tasks.compression.factors import factorise_layers, factors, multiply_out, rank_that_saves
from tasks.exporting.low_rank import split_low_rank, thin_factors
from tasks.serving.sessions import open_session
from tests.toy import ToyUseCase

SHARE = 0.5
RANK = 16  # of 64 times 64 weights: 16 * (64 + 64) is half of them


def low_rank(outputs: int, inputs: int, rank: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.normal(size=(outputs, rank)) @ random.normal(size=(rank, inputs))).astype(np.float32)


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)])
def test_factors_are_the_best_approximation_of_their_rank(shape: tuple[int, int]) -> None:
    """The error is that of the omitted singular values, and both factors have the same norm."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, right = factors(weight, 3)
    assert (left.shape, right.shape) == ((shape[0], 3), (3, shape[1]))
    expected = np.linalg.svd(weight.numpy(), compute_uv=False)[3:]
    assert float((weight - left @ right).norm()) == pytest.approx(np.linalg.norm(expected), rel=1e-5)
    assert float(left.norm()) == pytest.approx(float(right.norm()), rel=1e-5)


def test_ranks_save_the_share_and_no_less() -> None:
    for outputs, inputs in ((384, 384), (1536, 384), (64, 2), (3, 1000)):
        rank = rank_that_saves(SHARE, outputs, inputs)
        assert rank * (outputs + inputs) <= (1 - SHARE) * outputs * inputs < (rank + 1) * (outputs + inputs)


def test_multiplied_factors_are_plain_weights_of_the_same_rank() -> None:
    torch.manual_seed(0)
    network = ToyUseCase(hidden=64, depth=2).network(Path())
    names = list(network.state_dict())
    head, thin = network.head.weight.clone(), network.backbone[0].weight.clone()
    assert factorise_layers(network, SHARE) == 1
    network.requires_grad_(False)  # as a moving average is
    multiply_out(network)
    assert sorted(network.state_dict()) == sorted(names)
    assert all(type(module) is not nn.Linear or isinstance(module.weight, nn.Parameter) for module in network.modules())
    assert torch.equal(network.head.weight, head) and torch.equal(network.backbone[0].weight, thin)
    assert np.linalg.matrix_rank(network.backbone[4].weight.detach().numpy()) == RANK


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (50, 50)])
def test_the_rank_of_a_matrix_and_its_factors_are_found(shape: tuple[int, int]) -> None:
    weight = low_rank(*shape, 5)
    found = thin_factors(weight)
    assert found is not None
    assert found[0].shape[1] == found[1].shape[0] == 5
    np.testing.assert_allclose(found[0] @ found[1], weight, atol=1e-5 * np.abs(weight).max())


def test_a_matrix_is_not_factorised_without_a_gain() -> None:
    assert thin_factors(low_rank(60, 60, 60)) is None
    assert thin_factors(low_rank(60, 60, 28)) is None, "28 * 120 numbers are more than 90 %"
    sparse = np.zeros((60, 60), np.float32)
    sparse[::10, ::10] = low_rank(6, 6, 6)
    assert thin_factors(sparse) is None, "it has fewer numbers than its factors"
    assert thin_factors(np.zeros((60, 60), np.float32)) is None


def a_graph(rank: int) -> onnx.ModelProto:
    """Every kind of product: transposed, scaled, with and without a bias, a constant of two nodes, and one that is read elsewhere."""
    constants = {
        "weight": low_rank(40, 40, rank),
        "shared": low_rank(40, 40, rank),
        "seen": low_rank(40, 40, rank),
        "bias": np.ones(40, "f"),
    }
    node = onnx.helper.make_node
    nodes = [
        node("Gemm", ["x", "weight", "bias"], ["a"], "transposed", transB=1, alpha=0.01, beta=2.0),
        node("Gemm", ["a", "shared"], ["b"], "plain", alpha=0.01),
        node("Gemm", ["b", "shared"], ["c"], "turned", transB=1, alpha=0.01),
        node("MatMul", ["c", "shared"], ["d"], "product"),
        node("MatMul", ["d", "seen"], ["e"], "seen_product"),
        node("Add", ["e", "seen"], ["y"], "sum"),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [40, 40]) for name in ("x", "y")]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(a, name) for name, a in constants.items()])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def test_a_factorised_graph_has_the_same_outputs(tmp_path: Path) -> None:
    model, inputs = a_graph(rank=4), {"x": low_rank(40, 40, 40)}
    onnx.save(model, tmp_path / "whole.onnx")
    split_low_rank(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "thin.onnx")
    expected, found = (np.asarray(open_session(tmp_path / name).run(None, inputs)[0]) for name in ("whole.onnx", "thin.onnx"))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names)) == 6 + 4
    assert {tensor.name for tensor in model.graph.initializer} == {
        *("bias", "seen"),
        *("weight.left", "weight.right", "shared.left", "shared.right"),
    }


def test_a_graph_of_full_rank_is_not_changed() -> None:
    model = a_graph(rank=40)
    before = model.SerializeToString()
    split_low_rank(model.graph)
    assert model.SerializeToString() == before
