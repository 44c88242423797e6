"""Clustered weights in exported graphs: they are stored as a codebook and an index of one byte for each weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tasks.exporting.rewriting import rewrite

MAX_VALUES = 256  # an index is one byte
MIN_WEIGHTS = 8  # weights per value: with fewer, little would be saved
EXACT = 1e-6  # largest accepted error, relative to the largest weight of an output: about the rounding error of float32


def split_codebooks(graph: GraphProto, weights: Mapping[str, np.ndarray]) -> None:
    """Replace constant weights of few values by look-ups in a codebook, in place; a graph without any is not changed.

    ONNX Runtime looks the weights up once, when it opens the graph: neither speed nor outputs change. An index takes less than a byte once
    the file is compressed (`tasks.exporting.bundle.pack`).

    Args:
        graph: exported from a network.
        weights: weights of that network, by their names in the graph. The exporter folds a batch norm into the convolution before it: the
            weights in the graph are then those of the network times a scale for each output.
    """
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor) if len(tensor.dims) >= 2 and tensor.data_type == TensorProto.FLOAT else None
        found = None if array is None else find_codebook(array, weights.get(tensor.name, array))
        if found is None:
            constants.append(tensor)
            continue
        codebook, places, scales = found
        values = tensor.name if scales is None else f"{tensor.name}.values"
        parts = {"codebook": codebook, "places": places} | ({} if scales is None else {"scales": scales})
        constants += [numpy_helper.from_array(part, f"{tensor.name}.{name}") for name, part in parts.items()]
        nodes.append(_node("Cast", [f"{tensor.name}.places"], f"{tensor.name}.indices", to=TensorProto.INT32))
        nodes.append(_node("Gather", [f"{tensor.name}.codebook", f"{tensor.name}.indices"], values))
        if scales is not None:
            nodes.append(_node("Mul", [values, f"{tensor.name}.scales"], tensor.name))
    if nodes:
        rewrite(graph, [*nodes, *graph.node], constants)


def find_codebook(array: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
    """Find the few values of a weight [outputs, ...].

    Args:
        array: the constant in the graph.
        weight: the same weight of the network, which may differ by a factor for each output.

    Returns:
        The codebook, the index of each weight (uint8), and the factor of each output or None if all are 1; None if there are many values.
    """
    if array.shape != weight.shape:
        return None
    codebook, places = np.unique(weight, return_inverse=True)
    if len(codebook) > min(MAX_VALUES, weight.size // MIN_WEIGHTS):
        return None
    places = places.reshape(weight.shape).astype(np.uint8)
    if np.array_equal(array, weight):
        return codebook, places, None
    wide, whole = array.reshape(len(array), -1).astype(np.float64), weight.reshape(len(array), -1).astype(np.float64)
    scales = (wide * whole).sum(1) / np.maximum(np.square(whole).sum(1), np.finfo(np.float64).tiny)
    missed = np.abs(wide - scales[:, None] * whole).max(1)
    if (missed > EXACT * np.abs(wide).max(1)).any():
        return None
    return codebook, places, scales.astype(np.float32).reshape(-1, *[1] * (array.ndim - 1))


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs, [output], f"{output}.{kind.lower()}", **attributes)
