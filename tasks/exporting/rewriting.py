"""Other nodes and constants for a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnx import GraphProto, NodeProto, TensorProto


def rewrite(graph: GraphProto, nodes: Sequence[NodeProto], constants: Iterable[TensorProto]) -> None:
    """Give a graph these instead of its own, in place; what was known of the shapes of tensors that no node makes any more is forgotten."""
    made = {output for node in nodes for output in node.output}
    described = [value for value in graph.value_info if value.name in made]
    for field, members in ((graph.node, nodes), (graph.initializer, list(constants)), (graph.value_info, described)):
        del field[:]
        field.extend(members)  # pyright: ignore[reportArgumentType]
