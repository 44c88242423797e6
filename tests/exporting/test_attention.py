"""Attention is exported in a form that is fast on a CPU, with the outputs of torch."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from tasks.exporting import export as exporting
from tasks.exporting.export import write_graph
from tasks.serving.sessions import open_session
from tests.toy import ToyUseCase
from usecases.transformer import Block

PLACES, WIDTH = 12, 16


class Reader(nn.Module):
    """Causal attention over the positions of a row; 0 is padding, so that early positions may have nothing to attend to."""

    def __init__(self) -> None:
        super().__init__()
        self.item = nn.Embedding(50, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, 2, 32, 0.0) for _ in range(2))

    def forward(self, point: Tensor) -> Tensor:
        numbers = point.abs().long()
        causal = torch.ones(PLACES, PLACES, dtype=torch.bool).tril()
        visible = causal & (numbers > 0)[:, None, None, :]
        x = self.item(numbers)
        for block in self.blocks:
            x = block(x, visible)
        return x.mean(1)


class ReaderUseCase(ToyUseCase):
    """Reads a sequence with attention."""

    def predictor(self, network: nn.Module) -> nn.Module:
        return network


@pytest.fixture
def rows() -> np.ndarray:
    points = np.random.default_rng(0).integers(1, 50, (5, PLACES)).astype(np.float32)
    points[1, :6] = 0  # rows of the mask that are all False: torch gives them zeros
    points[2] = 0
    return points


def test_outputs_stay_and_superfluous_nodes_are_removed(rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = Reader().eval()
    for block, spread in zip(
        network.blocks, (1, 30), strict=True
    ):  # usual scores, and scores so far apart that most weights are negligible
        assert isinstance(block, Block)
        block.attention.query.weight.data *= spread
    simple = tmp_path / "simple.onnx"
    write_graph(ReaderUseCase(), network, {"point": rows[:2]}, simple)
    monkeypatch.setattr(exporting, "simplify_attention", lambda graph: None)
    plain = tmp_path / "plain.onnx"
    write_graph(ReaderUseCase(), network, {"point": rows[:2]}, plain)
    with torch.inference_mode():
        expected = network(torch.from_numpy(rows)).numpy()
    found = np.asarray(open_session(simple).run(None, {"point": rows})[0])
    has_known = rows.any(1) & rows[:, 0].astype(bool)
    np.testing.assert_allclose(found[has_known], expected[has_known], atol=2e-5)
    assert np.isfinite(found).all()
    before, after = (Counter(node.op_type for node in onnx.load(str(path)).graph.node) for path in (plain, simple))
    assert before["IsNaN"] == 2 and not after["IsNaN"], "if the exporter no longer writes checks, this rewriting can be removed"
    assert after["Max"] == 2 and sum(after.values()) < sum(before.values()) - 10
    onnx.checker.check_model(onnx.load(str(simple)))


def test_no_weight_is_a_denormal_number(rows: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "model.onnx"
    write_graph(ReaderUseCase(), Reader().eval(), {"point": rows[:2]}, path)
    model = onnx.load(str(path))
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    model.graph.output.append(onnx.helper.make_tensor_value_info(softmax.output[0], onnx.TensorProto.FLOAT, None))
    onnx.save(model, str(path))
    weights = np.asarray(open_session(path).run(None, {"point": rows})[1])
    assert weights.min() >= np.finfo(np.float32).tiny
    assert weights[0, 0, 0, 1:].max() < 1e-20, "later positions have negligible weights"


def test_a_graph_without_attention_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_graph(ToyUseCase(), ToyUseCase().network(tmp_path).eval(), {"point": np.zeros((2, 2), np.float32)}, path)
    graph = onnx.load(str(path)).graph
    before = copy.deepcopy(graph)
    exporting.simplify_attention(graph)
    assert graph == before
