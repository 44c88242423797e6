"""Sensitivity to quantisation: the error of each operator, and how many operators have to stay in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization.registry import QDQRegistry

from tasks.compression.quantize import Calibration, Quantizer
from tasks.compression.recipes import Recipe
from tasks.contract.types import Arrays, Say, silently
from tasks.serving.sessions import open_session


def rank_operators(quantizer: Quantizer, recipe: Recipe, say: Say = silently) -> list[str]:
    """Rank the nodes that a recipe quantises by the error that each causes.

    Each node is quantised alone, so that the errors of others do not hide its own, and the outputs are compared with those of the float
    graph on a batch of calibration inputs.

    Args:
        quantizer: writes the graphs.
        recipe: how to quantise.
        say: shows a progress message.

    Returns:
        Names of nodes, the largest error first.
    """
    inputs = Calibration(quantizer.model, quantizer.dataset).get_next()
    assert inputs is not None
    expected = _outputs(quantizer.prepared, inputs)
    offered = operators_of(quantizer.prepared, recipe)
    alone, errors = quantizer.scratch / "alone.onnx", {}
    for place, name in enumerate(offered, 1):
        say(f"{recipe.label}: the error of each operator, {place} of {len(offered)}")
        quantizer.write(recipe, alone, only=[name])
        if is_quantised(alone):
            errors[name] = output_error(expected, _outputs(alone, inputs))
    return sorted(errors, key=lambda name: -errors[name])


def operators_of(graph: Path, recipe: Recipe) -> list[str]:
    """Names of the nodes of a float graph that a recipe may quantise."""
    kinds = recipe.operators or tuple(QDQRegistry)
    return [node.name for node in onnx.load(str(graph), load_external_data=False).graph.node if node.op_type in kinds]


def is_quantised(graph: Path) -> bool:
    """Whether a graph has any quantised node."""
    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    return any("Quantize" in node.op_type or "NBits" in node.op_type for node in nodes)


def output_error(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """The relative L2 error summed over the outputs; for an output of integers, the share of values that differ."""
    return float(sum(map(_error, expected, found)))


def _error(expected: np.ndarray, found: np.ndarray) -> float:
    if not np.issubdtype(expected.dtype, np.floating):
        return float((expected != found).mean())
    finite = np.isfinite(expected) & np.isfinite(found)
    return float(np.linalg.norm(expected[finite] - found[finite]) / max(np.linalg.norm(expected[finite]), 1e-12))


def _outputs(graph: Path, inputs: Arrays) -> list[np.ndarray]:
    return [np.asarray(output) for output in open_session(graph).run(None, inputs)]


def fewest_in_float(recipe: Recipe, ranked: Sequence[str], is_within: Callable[[Recipe], bool]) -> Recipe | None:
    """The recipe within the budget that keeps the fewest operators in float.

    Their number is doubled until it is enough and then bisected, since usually a few are enough. At most half of the operators stay in
    float, since beyond that little speed is gained.

    Args:
        recipe: a recipe that misses the budget.
        ranked: names of nodes, the largest error first.
        is_within: whether a recipe is within the budget.

    Returns:
        The recipe; None if even half of the operators in float are not enough.
    """
    most = len(ranked) // 2
    too_few, enough = 0, 1
    if not most:
        return None
    while not is_within(with_in_float(recipe, ranked, enough)):
        if enough == most:
            return None
        too_few, enough = enough, min(2 * enough, most)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if is_within(with_in_float(recipe, ranked, middle)):
            enough = middle
        else:
            too_few = middle
    return with_in_float(recipe, ranked, enough)


def with_in_float(recipe: Recipe, ranked: Sequence[str], count: int) -> Recipe:
    """A recipe with some operators in float.

    Args:
        recipe: how to quantise.
        ranked: names of nodes, the largest error first.
        count: the number of nodes to keep in float.

    Returns:
        A copy of the recipe.
    """
    return recipe.model_copy(update={"in_float": tuple(ranked[:count]), "operator_count": len(ranked)})
