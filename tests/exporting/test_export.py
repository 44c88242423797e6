"""An exported graph has the outputs of torch, or it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tasks.contract.errors import BundleError
from tasks.exporting.export import check_parity, check_symbolic_axes, difference, untied, write_graph
from tests.toy import ToyUseCase


@pytest.fixture
def graph(tmp_path: Path) -> tuple[Any, dict[str, np.ndarray], Path]:
    torch.manual_seed(0)
    network = ToyUseCase().network(tmp_path).eval()
    sample = {"point": np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)}
    write_graph(ToyUseCase(), network, {"point": sample["point"][:2]}, tmp_path / "model.onnx")
    return network, sample, tmp_path / "model.onnx"


def test_the_batch_is_symbolic_and_outputs_are_equal(graph: tuple[Any, dict[str, np.ndarray], Path]) -> None:
    network, sample, path = graph
    check_symbolic_axes(path)
    check_parity(ToyUseCase(), network, sample, path)


def test_another_network_is_noticed(graph: tuple[Any, dict[str, np.ndarray], Path], tmp_path: Path) -> None:
    _, sample, path = graph
    torch.manual_seed(1)
    with pytest.raises(BundleError, match="differs from torch by"):
        check_parity(ToyUseCase(), ToyUseCase().network(tmp_path).eval(), sample, path)


def test_a_fixed_batch_is_noticed(graph: tuple[Any, dict[str, np.ndarray], Path]) -> None:
    path = graph[2]
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, str(path))
    with pytest.raises(BundleError, match="fixed the axis 'batch' of 'point' to the size 2"):
        check_symbolic_axes(path)


def test_the_same_weights_give_the_same_file(graph: tuple[Any, dict[str, np.ndarray], Path], tmp_path: Path) -> None:
    network, sample, path = graph
    write_graph(ToyUseCase(), network, {"point": sample["point"][:2]}, tmp_path / "again.onnx")
    assert path.read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_only_ties_may_change_places_in_a_ranking() -> None:
    scores = np.array([[3.0, 2.0, 2.0, 1.0, 0.5]], np.float32)
    ranking = untied({"item": np.array([[7, 5, 4, 9, 1]]), "score": scores})
    assert ranking is not None
    assert ranking.tolist() == [[True, False, False, True, False]]
    expected = np.array([[7, 5, 4, 9, 1]])
    assert difference(expected, np.array([[7, 4, 5, 9, 2]]), ranking) == 0
    assert difference(expected, np.array([[5, 7, 4, 9, 1]]), ranking) > 0
    assert difference(expected, np.array([[7, 4, 5, 9, 1]])) > 0, "without scores every position counts"
