"""Weight clustering: compared with the definitions, and as the exporter detects it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from tasks.compression.clustering import cluster, cluster_weights, look_up
from tasks.compression.parametrization import make_plain
from tasks.exporting.codebooks import find_codebook, split_codebooks
from tasks.serving.sessions import open_session


def weights(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("values", [2, 7, 16])
def test_clusters_are_those_of_k_means(values: int) -> None:
    """Every weight has the nearest value, and every value is the mean of its weights."""
    weight = weights(8, 16, 3, 3).to(memory_format=torch.channels_last)
    codebook, places = cluster(weight, values)
    assert torch.equal(places, (weight[..., None] - codebook).abs().argmin(-1))
    for place, value in enumerate(codebook):
        assert float(value) == pytest.approx(float(weight[places == place].mean()), abs=1e-6)


def test_a_constant_weight_and_more_values_than_weights_have_clusters_too() -> None:
    for weight in (torch.full((4, 4), 0.5), weights(2, 3)):
        codebook, places = cluster(weight, 16)
        torch.testing.assert_close(codebook[places], weight)


def test_the_gradient_of_a_value_is_the_sum_of_those_that_share_it() -> None:
    codebook, places = cluster(weights(6, 5), 4)
    gradients = weights(6, 5)
    codebook.requires_grad_()
    (look_up(codebook, places) * gradients).sum().backward()
    assert codebook.grad is not None
    torch.testing.assert_close(codebook.grad, torch.stack([gradients[places == place].sum() for place in range(4)]))


def test_zeros_and_low_rank_layers_are_preserved() -> None:
    layers = [nn.Linear(64, 64, bias=False) for _ in range(3)]
    with torch.no_grad():
        layers[0].weight *= layers[0].weight > 0
        layers[1].weight.copy_(weights(64, 4) @ weights(4, 64))
    zero, thin = layers[0].weight == 0, layers[1].weight.clone()
    network = nn.Sequential(*layers)
    assert cluster_weights(network, bits=2) == 2
    network(weights(8, 64)).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad if parameter.grad is not None else 0
    make_plain(network)
    assert torch.equal(layers[0].weight == 0, zero) and len(layers[0].weight.unique()) == 4
    assert len(layers[1].weight.unique()) > 1000 and not torch.equal(layers[1].weight, thin), "it is trained without clusters"
    assert len(layers[2].weight.unique()) == 4


def test_a_codebook_is_found_even_if_each_output_is_scaled() -> None:
    weight = few_values(32, 16, 3, 3)
    scales = np.linspace(-2, 2, 32, dtype=np.float32)[:, None, None, None]
    for array in (weight, weight * scales):
        found = find_codebook(array, weight)
        assert found is not None
        codebook, places, scale = found
        assert len(codebook) == 8 and places.dtype == np.uint8 and (scale is None) == (array is weight)
        np.testing.assert_allclose(codebook[places] * (1 if scale is None else scale), array, atol=1e-6)
    assert find_codebook(weight + weights(32, 16, 3, 3).numpy(), weight) is None, "it is another weight"
    plain = weights(32, 16, 3, 3).numpy()
    assert find_codebook(plain, plain) is None, "it has many values"


def few_values(*shape: int) -> np.ndarray:
    return weights(8).numpy()[np.random.default_rng(0).integers(0, 8, shape)]


def test_a_clustered_graph_has_the_same_outputs_and_is_folded_when_opened(tmp_path: Path) -> None:
    scales = np.linspace(1, 2, 64, dtype=np.float32)[:, None]
    constants = {"few": few_values(64, 64), "scaled": few_values(64, 64) * scales, "many": weights(64, 64).numpy()}
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "few"], ["a"]),
        onnx.helper.make_node("Gemm", ["a", "scaled"], ["b"], transB=1),
        onnx.helper.make_node("MatMul", ["b", "many"], ["y"]),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [64, 64]) for name in ("x", "y")]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(a, name) for name, a in constants.items()])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "plain.onnx")
    before = model.ByteSize()
    split_codebooks(model.graph, {"scaled": few_values(64, 64)})
    onnx.checker.check_model(model, full_check=True)
    assert model.ByteSize() < before - 2 * 3 * 64 * 64 + 2000, "one byte instead of four for each weight"
    onnx.save(model, tmp_path / "shared.onnx")
    inputs = {"x": weights(64, 64).numpy()}
    expected, found = (np.asarray(open_session(tmp_path / name).run(None, inputs)[0]) for name in ("plain.onnx", "shared.onnx"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    open_session(tmp_path / "shared.onnx", optimised=tmp_path / "kept")
    (kept,) = (tmp_path / "kept").glob("*.onnx")
    assert all(node.op_type in ("Gemm", "MatMul", "FusedGemm") for node in onnx.load(kept).graph.node), "no look-up is left at inference"
