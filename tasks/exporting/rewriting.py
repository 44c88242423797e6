"""Replacement of the nodes and constants of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnx import GraphProto, NodeProto, TensorProto


def rewrite(graph: GraphProto, nodes: Sequence[NodeProto], constants: Iterable[TensorProto]) -> None:
    """Replace the nodes and constants of a graph in place, and drop the shapes of tensors that no node computes any more.

    Args:
        graph: the graph to change.
        nodes: all its nodes, in the order of computation.
        constants: all its initializers.
    """
    made = {output for node in nodes for output in node.output}
    described = [value for value in graph.value_info if value.name in made]
    for field, members in ((graph.node, nodes), (graph.initializer, list(constants)), (graph.value_info, described)):
        del field[:]
        field.extend(members)  # pyright: ignore[reportArgumentType]
