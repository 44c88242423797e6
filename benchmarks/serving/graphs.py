"""Two graphs for the requests of the toy use case: a tiny one, and one that takes about ten milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CHANNELS, CONVOLUTIONS = 56, 64, 12


def write(path: Path, heavy: bool) -> None:
    """Write a graph that maps point, float32 [N, 2], to probabilities, float32 [N, 2]."""
    random = np.random.default_rng(0)
    weights = {"last": random.normal(size=(CHANNELS, 2)).astype(np.float32)}
    if heavy:
        weights["first"] = random.normal(size=(2, CHANNELS * 49)).astype(np.float32)
        nodes = [
            helper.make_node("MatMul", ["point", "first"], ["spread"]),
            helper.make_node("Reshape", ["spread", "shape"], ["small"]),
            helper.make_node("Resize", ["small", "", "scales"], ["x0"], mode="nearest"),
        ]
        for layer in range(CONVOLUTIONS):
            weights[f"w{layer}"] = (random.normal(size=(CHANNELS, CHANNELS, 3, 3)) / 20).astype(np.float32)
            nodes.append(helper.make_node("Conv", [f"x{layer}", f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
            nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"x{layer + 1}"]))
        nodes.append(helper.make_node("GlobalAveragePool", [f"x{CONVOLUTIONS}"], ["pooled"]))
        nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    else:
        weights["first"] = random.normal(size=(2, CHANNELS)).astype(np.float32)
        nodes = [helper.make_node("MatMul", ["point", "first"], ["hidden"]), helper.make_node("Relu", ["hidden"], ["features"])]
    nodes += [
        helper.make_node("MatMul", ["features", "last"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    if heavy:
        constants.append(numpy_helper.from_array(np.array([-1, CHANNELS, 7, 7], dtype=np.int64), "shape"))
        constants.append(numpy_helper.from_array(np.array([1, 1, SIDE / 7, SIDE / 7], dtype=np.float32), "scales"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("point", "probabilities")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
