"""Low-rank weights in exported graphs: they are stored as two thin matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tasks.exporting.rewriting import rewrite

EXACT = 1e-6  # largest accepted error, relative to the norm of a matrix: about the rounding error of float32
WORTH = 0.9  # factors with a larger share of the numbers of their matrix gain nothing, since they need a second product
SIDES = (".left", ".right")  # suffixes of the names of factors
SPARE = 8  # oversampling of the random projection


def split_low_rank(graph: GraphProto) -> None:
    """Replace products with a constant low-rank matrix by two products with thin matrices, in place.

    The second product is the original node with its name, output, bias and attributes; the first is a new node. A graph without such
    matrices is not changed.
    """
    thin = {tensor.name: pair for tensor in _multiplied(graph) if (pair := thin_factors(numpy_helper.to_array(tensor)))}
    if not thin:
        return
    nodes = [part for node in graph.node for part in (_in_two(node) if set(node.input[1:2]) & thin.keys() else [node])]
    kept = [tensor for tensor in graph.initializer if tensor.name not in thin]
    factors = [numpy_helper.from_array(array, name + side) for name, pair in thin.items() for side, array in zip(SIDES, pair, strict=True)]
    rewrite(graph, nodes, [*kept, *factors])


def thin_factors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Factorise a low-rank matrix [M, N].

    Singular values take long to compute, so a random projection first finds out whether there are few of them (Halko 2011).

    Returns:
        Factors [M, R] and [R, N], float32, whose product is the matrix up to rounding, where R is its numerical rank; None if they would have
        hardly fewer numbers than the matrix has nonzero ones.
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
    """The constant matrices that are used only as the right operand of matrix products."""
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
    """A new product with the first factor, and `node`, which is changed to multiply its result with the second."""
    transposed = _attribute(node, "transB")
    first, second = (node.input[1] + side for side in (reversed(SIDES) if transposed else SIDES))
    between = f"{node.output[0]}_low_rank"
    product = helper.make_node(node.op_type, [node.input[0], first], [between], f"{node.name}_low_rank")
    if transposed:
        product.attribute.append(helper.make_attribute("transB", 1))
    node.input[0], node.input[1] = between, second
    return [product, node]


def _attribute(node: NodeProto, name: str) -> int:
    """An integer attribute of a node; 0 if it is not set."""
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)
