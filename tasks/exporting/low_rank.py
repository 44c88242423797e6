"""Constant matrices of low rank in a graph, written as products of two thin ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tasks.exporting.rewriting import rewrite

EXACT = 1e-6  # of a matrix's norm: what its factors may miss, which is about what rounding to float32 adds to a matrix of low rank
WORTH = 0.9  # of the numbers of a matrix: were the factors to hold more, a second product would be no gain
SIDES = (".left", ".right")  # ends of the names of factors
SPARE = 8  # directions that are drawn beyond those that are worth it, so that chance misses none


def split_low_rank(graph: GraphProto) -> None:
    """Turn products with a constant matrix of low rank into two products with thin ones, in place; a graph without any stays as it is.

    The second of the two is the node as it was, with its name, output, bias and attributes, and the first is new.
    """
    thin = {tensor.name: pair for tensor in _multiplied(graph) if (pair := thin_factors(numpy_helper.to_array(tensor)))}
    if not thin:
        return
    nodes = [part for node in graph.node for part in (_in_two(node) if set(node.input[1:2]) & thin.keys() else [node])]
    kept = [tensor for tensor in graph.initializer if tensor.name not in thin]
    factors = [numpy_helper.from_array(array, name + side) for name, pair in thin.items() for side, array in zip(SIDES, pair, strict=True)]
    rewrite(graph, nodes, [*kept, *factors])


def thin_factors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Float32 matrices [M, R] and [R, N] whose product is a matrix [M, N] but for rounding, with R its numerical rank.

    None where they would hold hardly fewer numbers than the matrix has that are not zero. What takes long, the singular values, is computed
    only where a random projection shows that there are few (Halko 2011).
    """
    most = int(WORTH * np.count_nonzero(matrix) / sum(matrix.shape))
    if not most:
        return None
    wide = matrix.astype(np.float64)
    missed = (EXACT * np.linalg.norm(wide)) ** 2
    drawn = np.random.default_rng(0).normal(size=(wide.shape[1], min(most + SPARE, *wide.shape)))
    basis, _ = np.linalg.qr(wide @ drawn)
    inside = basis.T @ wide
    if np.square(wide - basis @ inside).sum() > missed:
        return None
    left, scales, right = np.linalg.svd(inside, full_matrices=False)
    rank = int((np.square(scales[::-1]).cumsum()[::-1] > missed).sum())
    if rank > most:
        return None
    root = np.sqrt(scales[:rank])
    return (basis @ left[:, :rank] * root).astype(np.float32), (root[:, None] * right[:rank]).astype(np.float32)


def _multiplied(graph: GraphProto) -> Iterator[TensorProto]:
    """The constant matrices that nothing but products reads, from the right."""
    readers: defaultdict[str, list[bool]] = defaultdict(list)
    for node in graph.node:
        for place, name in enumerate(node.input):
            readers[name].append(place == 1 and (node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transA"))))
    for output in graph.output:
        readers[output.name].append(False)
    for tensor in graph.initializer:
        if readers[tensor.name] and all(readers[tensor.name]) and len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT:
            yield tensor


def _in_two(node: NodeProto) -> list[NodeProto]:
    """A product with the first factor, and `node`, which is changed to go on with the second."""
    transposed = _attribute(node, "transB")
    first, second = (node.input[1] + side for side in (reversed(SIDES) if transposed else SIDES))
    between = f"{node.output[0]}_low_rank"
    product = helper.make_node(node.op_type, [node.input[0], first], [between], f"{node.name}_low_rank")
    if transposed:
        product.attribute.append(helper.make_attribute("transB", 1))
    node.input[0], node.input[1] = between, second
    return [product, node]


def _attribute(node: NodeProto, name: str) -> int:
    """Zero where the node has none of that name."""
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)
