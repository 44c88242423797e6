"""Tied embedding tables in quantised graphs: a table that is used for look-ups and as a matrix is stored only once, in int8."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tasks.exporting.rewriting import rewrite

ROUNDING = 0.51  # largest rounding error of a quantised number, in quantisation steps


@dataclass(frozen=True)
class Shared:
    """A table that a graph stores twice."""

    lookup: NodeProto
    rows: np.ndarray  # int8 [N, D]; the last M rows are also used as a matrix
    scales: np.ndarray  # float32 [N, 1]
    weights: str  # name of the constant with the last M rows, transposed: int8 [D, M]


def share_tables(graph: GraphProto) -> None:
    """Store each tied embedding table of a dynamically quantised graph only once, in place, with a scale for each row.

    Dynamic quantisation writes such tables twice, in a recommender half of the size of the graph, and gives the rows for look-ups one common
    scale. ONNX Runtime transposes the table once, when it opens the graph.
    """
    for number in itertools.count():
        shared = _find(graph)
        if shared is None:
            return
        _hold_once(graph, shared, f"shared_table_{number}")


def _find(graph: GraphProto) -> Shared | None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers = _readers(graph)
    for lookup in graph.node:
        name = lookup.input[0] if lookup.op_type == "Gather" else ""
        table, scale, zero = (constants.get(one) for one in (name, _scale(name), _zero_point(name)))
        if table is None or scale is None or zero is None or table.ndim != 2 or scale.size != 1 or len(readers[name]) > 1:
            continue
        found = _multiplied(lookup, (table.astype(np.float32) - float(zero)) * scale, float(scale), constants, readers)
        if found is not None:
            return found
    return None


def _multiplied(
    lookup: NodeProto, table: np.ndarray, step: float, constants: Mapping[str, np.ndarray], readers: Mapping[str, Sequence[NodeProto]]
) -> Shared | None:
    """The look-up with the first matrix product whose weights are the last rows of `table` (float32 [N, D]) up to rounding."""
    for name, weights in constants.items():
        scales, zeros = constants.get(_scale(name)), constants.get(_zero_point(name))
        products = [node for node in readers.get(name, ()) if node.op_type == "MatMulInteger" and node.input[1] == name]
        if not products or scales is None or zeros is None or zeros.any() or weights.shape != (table.shape[1], scales.size):
            continue
        first = len(table) - scales.size
        if first < 0 or (np.abs(table[first:] - weights.T * scales[:, None]) > ROUNDING * (step + scales[:, None])).any():
            continue
        largest = np.abs(table[:first]).max(1, initial=0)
        others = np.where(largest > 0, largest, 127) / 127
        rows = np.concatenate([np.rint(table[:first] / others[:, None]).astype(np.int8), weights.T])
        return Shared(lookup, rows, np.concatenate([others, scales]).astype(np.float32)[:, None], name)
    return None


def _hold_once(graph: GraphProto, shared: Shared, name: str) -> None:
    old, found, weights = shared.lookup.input[0], shared.lookup.output[0], shared.weights
    ends = [f"{name}_first", f"{name}_last", f"{name}_axis"]
    first = len(shared.rows) - next(tensor.dims[1] for tensor in graph.initializer if tensor.name == weights)
    values = (first, len(shared.rows), 0)
    held = {name: shared.rows, f"{name}_scales": shared.scales, f"{name}_flat": np.array([-1])}
    held |= {end: np.array([value]) for end, value in zip(ends, values, strict=True)}
    opening = [
        _node("Slice", [name, *ends], f"{name}_multiplied"),
        _node("Transpose", [f"{name}_multiplied"], weights, perm=[1, 0]),
        _node("Slice", [f"{name}_scales", *ends], f"{name}_multiplied_scales"),
        _node("Reshape", [f"{name}_multiplied_scales", f"{name}_flat"], _scale(weights)),
    ]
    readers = _readers(graph)[found]
    dequantised = readers[0] if [node.op_type for node in readers] == ["DequantizeLinear"] else None
    numbers = dequantised.output[0] if dequantised is not None else f"{name}_numbers"
    looking_up = [
        _node("Gather", [name, shared.lookup.input[1]], f"{name}_found"),
        _node("Cast", [f"{name}_found"], f"{name}_integers", to=TensorProto.FLOAT),
        _node("Gather", [f"{name}_scales", shared.lookup.input[1]], f"{name}_found_scales"),
        _node("Mul", [f"{name}_integers", f"{name}_found_scales"], numbers),
    ]
    if dequantised is None:  # an integer product reads the rows: it needs one scale for all, which depends on the rows
        outputs = [found, _scale(old), _zero_point(old)]
        looking_up.append(helper.make_node("DynamicQuantizeLinear", [numbers], outputs, f"{name}_again"))
    place = list(graph.node).index(shared.lookup)
    before, after = graph.node[:place], [node for node in graph.node[place + 1 :] if node != dequantised]
    gone = {old, _scale(old), _zero_point(old), weights, _scale(weights)}
    kept = [tensor for tensor in graph.initializer if tensor.name not in gone]
    added = [numpy_helper.from_array(array, key) for key, array in held.items()]
    rewrite(graph, [*opening, *before, *looking_up, *after], [*kept, *added])


def _readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _scale(quantised: str) -> str:
    """The name that ONNX Runtime's quantisation gives to the scale of a tensor."""
    return f"{quantised.removesuffix('_quantized')}_scale"


def _zero_point(quantised: str) -> str:
    return f"{quantised.removesuffix('_quantized')}_zero_point"


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs, [output], output, **attributes)
