"""Export of a trained network to an ONNX graph, which is checked against torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.errors import BundleError
from tasks.contract.types import Arrays
from tasks.contract.usecase import UseCase
from tasks.exporting.attention import simplify_attention
from tasks.exporting.bundle import write_bundle
from tasks.exporting.codebooks import split_codebooks
from tasks.exporting.low_rank import split_low_rank
from tasks.serving.sessions import open_session
from tasks.training.checkpoints import load_network
from tasks.training.predicting import torch_predict

OPSET = 20
BATCHES = (1, 2, 7)  # batch sizes at which the graph is compared with torch
APART = 1e-4  # relative difference of scores in a ranking below which they count as tied
TOLERANCE = 1e-3  # largest accepted difference of outputs of the order of 1; kernels sum in different orders


def export(checkpoint: Checkpoint, dataset: Dataset, work: Path, label: str = "fp32") -> dict[str, Any]:
    """Write the full-precision bundle of a checkpoint.

    Args:
        checkpoint: the trained network.
        dataset: the prepared data, whose test examples are used for the checks.
        work: the folder of the bundle.
        label: name of the candidate in reports.

    Returns:
        The fields of its `OnnxModel`.

    Raises:
        BundleError: the exporter fixed the size of an axis that should vary, or the graph differs from torch on real examples.
    """
    usecase = checkpoint.usecase
    network = load_network(checkpoint)
    examples = usecase.examples(dataset.folder, "test")
    rows = np.linspace(0, len(examples) - 1, max(BATCHES)).astype(np.int64)
    sample = {name: array for name, array in examples.batch(rows).items() if name in usecase.input_names}
    write_graph(usecase, network, {name: array[:2] for name, array in sample.items()}, work / "model.onnx")
    check_symbolic_axes(work / "model.onnx", usecase.variable_axes)
    check_parity(usecase, network, sample, work / "model.onnx")
    return write_bundle(work, label, usecase, checkpoint.assets, dataset)


def write_graph(usecase: UseCase, network: nn.Module, sample: Arrays, path: Path) -> None:
    """Export the predictor of a use case.

    Args:
        usecase: provides the predictor and the names of inputs and outputs.
        network: the trained network.
        sample: example inputs with two rows, since the exporter takes the sizes 0 and 1 for constants.
        path: the ONNX file to write.
    """
    inputs = tuple(torch.from_numpy(np.ascontiguousarray(sample[name])) for name in usecase.input_names)
    axes = [torch.export.Dim(name) for name in ("batch", *usecase.variable_axes)]
    shapes = (dict(enumerate(axes)),) * len(inputs)
    predictor = usecase.predictor(network).eval()
    with silence():
        program = torch.onnx.export(
            predictor,
            inputs,
            input_names=list(usecase.input_names),
            output_names=list(usecase.output_names),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:]  # the exporter writes paths and times, with which the same weights would give different files
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    simplify_attention(model.graph)
    split_low_rank(model.graph)
    split_codebooks(model.graph, {name: weight.detach().numpy() for name, weight in predictor.named_parameters() if weight.ndim > 1})
    onnx.save(model, str(path))


def check_symbolic_axes(graph: Path, variable: Sequence[str] = ()) -> None:
    """Check that the size of the batch and of other variable axes is not fixed, which the exporter does without an error.

    Raises:
        BundleError: the size of an axis is fixed.
    """
    model = onnx.load(str(graph), load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        asked = 1 + len(variable) if value in model.graph.input else 1
        for name, axis in zip(("batch", *variable)[:asked], axes, strict=False):
            if not axis.dim_param:
                raise BundleError(
                    f"The exporter fixed the axis {name!r} of {value.name!r} to the size {axis.dim_value}: the forward pass of the network "
                    "depends on it. Avoid Python numbers that are computed from shapes."
                )


def check_parity(usecase: UseCase, network: nn.Module, sample: Arrays, graph: Path) -> None:
    """Compare the outputs of the graph with those of torch on real examples, at several batch sizes.

    Args:
        usecase: provides the predictor and the names of inputs and outputs.
        network: the trained network.
        sample: inputs with as many rows as the largest batch size.
        graph: the ONNX file.

    Raises:
        BundleError: the outputs differ.
    """
    session = open_session(graph)
    in_torch = torch_predict(usecase, network)
    for size in BATCHES:
        rows = {name: array[:size] for name, array in sample.items()}
        expected = in_torch(rows)
        found = dict(zip(usecase.output_names, session.run(list(usecase.output_names), rows), strict=True))
        ranking = untied(expected)
        for name in usecase.output_names:
            off = difference(expected[name], np.asarray(found[name]), ranking)
            if not off <= TOLERANCE:
                raise BundleError(
                    f"The exported graph differs from torch by {off:.2g} in {name!r} at batch {size}; {TOLERANCE:g} is allowed."
                )


def untied(outputs: Arrays) -> np.ndarray | None:
    """The positions of a ranking whose items no tie of scores could swap.

    Outputs are a ranking if exactly one of them has floats [B, K], scores in descending order. The last position always counts as tied: the
    next one was cut off.

    Returns:
        bool [B, K]; None if the outputs are not a ranking.
    """
    scores = [array for array in outputs.values() if array.ndim == 2 and np.issubdtype(array.dtype, np.floating)]
    if len(scores) != 1 or not (scores[0][:, 1:] <= scores[0][:, :-1]).all():
        return None
    apart = np.nan_to_num(scores[0][:, :-1] - scores[0][:, 1:]) > APART * max(1.0, _largest(scores[0]))
    edge = np.ones((len(apart), 1), dtype=bool)
    return np.concatenate([edge, apart], axis=1) & np.concatenate([apart, ~edge], axis=1)


def difference(expected: np.ndarray, found: np.ndarray, ranking: np.ndarray | None = None) -> float:
    """How far an output differs from the expected one.

    Args:
        expected: floats or integers, of any shape.
        found: of the same shape and type.
        ranking: positions that are compared (see `untied`), if the output is integers of the same shape: kernels may sort ties differently.

    Returns:
        For floats the largest difference, divided by the largest expected value if that is above 1; for integers the share that differs.
    """
    if np.issubdtype(found.dtype, np.integer):
        differs = expected != found
        return float((differs & ranking if ranking is not None and ranking.shape == differs.shape else differs).mean())
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    return float(np.abs(expected[finite] - found[finite]).max(initial=0)) / max(1.0, _largest(expected))


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppress output, logs and warnings: exporters print their progress and warn about their own libraries."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
