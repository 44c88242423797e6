"""Constant weights of few values in a graph, written as places in a codebook, a byte for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tasks.exporting.rewriting import rewrite

MAX_VALUES = 256  # places are bytes
MIN_WEIGHTS = 8  # for each value: with fewer little would be saved
EXACT = 1e-6  # of the largest weight of an output: what its scale may miss, which is about what rounding to float32 adds


def split_codebooks(graph: GraphProto, weights: Mapping[str, np.ndarray]) -> None:
    """Turn constant weights of few values into a look-up of them, in place; a graph without any stays as it is.

    ONNX Runtime looks them up once, as it opens the graph: neither speed nor answers change. The places, of which there are few, make up
    less than a byte each once the file is packed (`tasks.exporting.bundle.pack`).

    Args:
        graph: exported from a network.
        weights: of that network, by the name that they have in the graph. The exporter folds a batch norm into the convolution before it:
            the graph's weights are then the network's with a scale for each output, and have few values for each output alone.
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
    """The few values of a weight [outputs, ...], the place of each, uint8, and a scale for each output; None where they are many.

    Args:
        array: the constant of a graph.
        weight: what the network has in its place: the same, but for a scale for each output.
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
