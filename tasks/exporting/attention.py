"""Faster attention in exported graphs: the general form that the exporter writes slows a small recommender down by up to a half on a CPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from tasks.exporting.rewriting import rewrite

MIN_SCORE = -60.0  # of a score, relative to the best of its row: its weight, 1e-26, is negligible in float32, but not a denormal number
PREFIX = "attention"  # of the names of nodes and constants that are added


@dataclass(frozen=True)
class Attention:
    """The nodes of one attention: softmax(product + mask), and the check of the weights for NaN, if there is one."""

    product: NodeProto
    masked: NodeProto
    softmax: NodeProto
    check: NodeProto | None


def simplify_attention(graph: GraphProto) -> None:
    """Rewrite every masked attention of a graph in place; a graph without any is not changed.

    - Scores are limited to 60 below the best of their row. Otherwise masked scores would become denormal numbers, with which a softmax on x64
      takes five times as long. A masked position now has the weight 1e-26 instead of 0, far below the precision of float32.
    - Weights are not checked for NaN: masks are finite, so that there cannot be any.
    - Keys are transposed by one node, which ONNX Runtime fuses into the product, instead of by eight.
    """
    makers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: float(numpy_helper.to_array(tensor).item()) for tensor in graph.initializer if math.prod(tensor.dims) == 1}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    found = [attention for node in graph.node if (attention := _attention(node, makers, constants))]
    if not found:
        return
    before: dict[str, list[NodeProto]] = {}
    for number, attention in enumerate(found):
        before[attention.softmax.output[0]] = _floor(attention, f"{PREFIX}_{number}")
        _transpose_once(attention.product, makers, ranks)
    renamed = {a.check.output[0]: a.softmax.output[0] for a in found if a.check}
    nodes = [part for node in graph.node for part in (*before.get(node.output[0], ()), node)]
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    nodes = _read(nodes, {output.name for output in graph.output})
    read = {name for node in nodes for name in node.input}
    added = (
        numpy_helper.from_array(np.array(MIN_SCORE, np.float32), f"{PREFIX}_least"),
        numpy_helper.from_array(np.array([-1]), f"{PREFIX}_axis"),
    )
    rewrite(graph, nodes, [tensor for tensor in (*graph.initializer, *added) if tensor.name in read])


def _attention(node: NodeProto, makers: Mapping[str, NodeProto], constants: Mapping[str, float]) -> Attention | None:
    """The attention that a softmax belongs to; None if the node is not one, or there is no mask, or the mask is not finite."""
    over_last = node.op_type == "Softmax" and any(a.name == "axis" and a.i == -1 for a in node.attribute)
    masked = makers.get(node.input[0]) if over_last else None
    if masked is None or masked.op_type != "Add":
        return None
    product, mask = (makers.get(name) for name in masked.input)
    while mask is not None and mask.op_type in ("Expand", "Unsqueeze", "Slice"):
        mask = makers.get(mask.input[0])
    if product is None or mask is None or (product.op_type, mask.op_type) != ("MatMul", "Where"):
        return None
    if not all(math.isfinite(constants.get(name, math.nan)) for name in mask.input[1:]):
        return None
    check = next((n for n in makers.values() if n.op_type == "Where" and _checks(n, node, makers)), None)
    return Attention(product, masked, node, check)


def _checks(where: NodeProto, softmax: NodeProto, makers: Mapping[str, NodeProto]) -> bool:
    """Whether a node is Where(IsNaN(weights), 0, weights)."""
    is_nan, weights = makers.get(where.input[0]), softmax.output[0]
    return where.input[2] == weights and is_nan is not None and is_nan.op_type == "IsNaN" and is_nan.input[0] == weights


def _floor(attention: Attention, name: str) -> list[NodeProto]:
    """New nodes that limit scores from below; the softmax is changed to read their output."""
    scores, best, least, lifted = attention.masked.output[0], f"{name}_best", f"{name}_least", f"{name}_lifted"
    attention.softmax.input[0] = lifted
    return [
        helper.make_node("ReduceMax", [scores, f"{PREFIX}_axis"], [best], best, keepdims=1),
        helper.make_node("Add", [best, f"{PREFIX}_least"], [least], least),
        helper.make_node("Max", [scores, least], [lifted], lifted),
    ]


def _transpose_once(product: NodeProto, makers: Mapping[str, NodeProto], ranks: Mapping[str, int]) -> None:
    """Transpose keys [B, H, L, D] directly, without flattening them to three axes and back."""
    scaled = makers.get(product.input[1])
    back = makers.get(scaled.input[0]) if scaled is not None and scaled.op_type == "Mul" else None
    turned = makers.get(back.input[0]) if back is not None and back.op_type == "Reshape" else None
    flat = makers.get(turned.input[0]) if turned is not None and turned.op_type == "Transpose" else None
    if back is None or turned is None or flat is None or flat.op_type != "Reshape" or ranks.get(flat.input[0]) != 4:
        return
    if list(turned.attribute[0].ints) != [0, 2, 1] or ranks.get(back.output[0]) != 4:
        return
    back.CopyFrom(helper.make_node("Transpose", [flat.input[0]], list(back.output), back.name, perm=[0, 1, 3, 2]))


def _read(nodes: Sequence[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """The nodes whose outputs are read by others or are outputs of the graph."""
    kept, read = [], set(outputs)
    for node in reversed(nodes):  # nodes are in the order of computation: readers come later
        if read & set(node.output):
            kept.append(node)
            read |= set(node.input)
    return kept[::-1]
