"""Tied embedding tables of quantised graphs are stored once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from tasks.compression.tables import share_tables
from tasks.exporting.export import silence, write_graph
from tasks.serving.sessions import open_session
from usecases.recommendation import Recommendation
from usecases.recommendation.network import NextItem, SelfAttentive

ITEMS, LENGTH, WIDTH = 500, 8, 32


@pytest.fixture(scope="module", params=[0, 16], ids=["whole", "factored"])
def quantised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of a recommender in int8, in a folder with `full.onnx`."""
    folder = tmp_path_factory.mktemp("quantised")
    torch.manual_seed(0)
    usecase = Recommendation(length=LENGTH, width=WIDTH, blocks=1, item_rank=request.param)
    network = NextItem(SelfAttentive(usecase, ITEMS), torch.rand(ITEMS)).eval()
    write_graph(usecase, network, requests(2), folder / "full.onnx")
    with silence():
        quant_pre_process(folder / "full.onnx", folder / "prepared.onnx", skip_symbolic_shape=True)
        kinds = ["MatMul", "Gemm", "Gather"]
        settings = {"op_types_to_quantize": kinds, "per_channel": True, "weight_type": QuantType.QInt8}
        quantize_dynamic(folder / "prepared.onnx", folder / "int8.onnx", **settings)
    return folder / "int8.onnx"


def requests(rows: int) -> dict[str, np.ndarray]:
    history = np.random.default_rng(0).integers(1, ITEMS + 1, (rows, LENGTH))
    history[0, :3] = 0
    return {"history": history, "allowed": np.ones((rows, ITEMS), dtype=bool)}


def test_a_tied_table_is_stored_once_and_outputs_stay(quantised: Path, tmp_path: Path) -> None:
    model, shared = onnx.load(str(quantised)), tmp_path / "shared.onnx"
    share_tables(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(shared))
    tables = [list(t.dims) for t in model.graph.initializer if len(t.dims) == 2 and {ITEMS, ITEMS + 1} & set(t.dims)]
    assert sorted(tables) == sorted([[ITEMS + 1, 1], [ITEMS + 1, max(dims[1] for dims in tables)]]), "numbers and their scales"
    assert shared.stat().st_size < quantised.stat().st_size - 0.8 * ITEMS * max(dims[1] for dims in tables)

    def scores(path: Path) -> np.ndarray:
        """[B, ITEMS + 1], nan for what is not among the answers."""
        item, score = map(np.asarray, open_session(path).run(None, requests(6)))
        found = np.full((len(item), ITEMS + 1), np.nan)
        np.put_along_axis(found, item, score, 1)
        return found

    full, before, after = (scores(path) for path in (quantised.with_name("full.onnx"), quantised, shared))
    both = np.isfinite(full) & np.isfinite(after) & np.isfinite(before)
    assert both.mean() > 0.1
    off_before, off_after = (np.abs(found - full)[both].mean() for found in (before, after))
    assert off_after < 1.2 * off_before


def test_a_table_that_is_not_tied_is_not_changed(quantised: Path) -> None:
    graph = onnx.load(str(quantised)).graph
    scale = next(t for t in graph.initializer if list(t.dims) == [ITEMS] and t.data_type == TensorProto.FLOAT and t.name.endswith("_scale"))
    other = onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(scale), scale.name)  # other numbers than those that are looked up
    scale.CopyFrom(other)
    before = graph.SerializeToString()
    share_tables(graph)
    assert graph.SerializeToString() == before
