"""Post-training quantisation of bundles with ONNX Runtime."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from tasks.compression.recipes import MATMULS, Recipe
from tasks.compression.tables import share_tables
from tasks.contract.artifacts import Dataset, OnnxModel
from tasks.contract.types import Arrays
from tasks.exporting.bundle import write_bundle
from tasks.exporting.export import silence
from tasks.serving.graph_files import GRAPH, TABLE, read_graph, stored_graph

CALIBRATION_EXAMPLES = 512
CALIBRATION_BATCH = 32
BLOCK = 32  # weights that share a scale in weight-only quantisation
INT8_SUMS = 4  # accuracy_level of MatMulNBits that quantises activations to int8, too: on CPUs this makes it fast
METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}


def quantize(model: OnnxModel, dataset: Dataset, recipe: Recipe, tried: Sequence[dict[str, Any]], work: Path) -> dict[str, Any]:
    """Write the quantised bundle of a model to `work`.

    Args:
        model: in full precision; its files are not changed.
        dataset: the prepared data, from whose training split the calibration inputs are taken.
        recipe: how to quantise.
        tried: a row for each recipe that was measured. It is written to `logs/`, which the digest of a bundle leaves out: latencies differ
            from run to run.
        work: the folder of the bundle.

    Returns:
        The fields of its `OnnxModel`.
    """
    apply(recipe, model, dataset, work / GRAPH)
    (work / TABLE).parent.mkdir(exist_ok=True)
    (work / TABLE).write_text(json.dumps(list(tried), indent=1))
    label = recipe.label if model.role == "full" else f"{model.label}, {recipe.label}"
    fields = write_bundle(work, label, model.usecase, model.assets, dataset)
    return {**fields, "role": "compressed"}


def apply(recipe: Recipe, model: OnnxModel, dataset: Dataset, path: Path) -> None:
    """Write the quantised graph of a model to a file.

    Args:
        recipe: how to quantise.
        model: in full precision.
        dataset: the prepared data, for calibration.
        path: the file to write.
    """
    with tempfile.TemporaryDirectory() as scratch:
        Quantizer(model, dataset, Path(scratch)).write(recipe, path)


class Quantizer:
    """Quantises one graph by several recipes. The graph is prepared once, and each calibration measures the ranges of activations once."""

    def __init__(self, model: OnnxModel, dataset: Dataset, scratch: Path) -> None:
        self.model, self.dataset, self.scratch = model, dataset, scratch
        self.plain, self.prepared = scratch / GRAPH, scratch / "prepared.onnx"
        self.plain.write_bytes(read_graph(stored_graph(model.folder)))
        with silence():
            # no symbolic shape inference: it changes nothing, and a failure leaves files in the working directory
            quant_pre_process(self.plain, self.prepared, skip_symbolic_shape=True)

    def write(self, recipe: Recipe, path: Path, only: Sequence[str] = ()) -> None:
        """Quantise the graph.

        Args:
            recipe: how to quantise.
            path: the file to write.
            only: names of the nodes to quantise; empty: all that the recipe allows.
        """
        with silence():
            {"static": self._static, "dynamic": self._dynamic, "weights": self._weights, "fp16": self._fp16}[recipe.kind](
                recipe, path, list(only)
            )

    def _static(self, recipe: Recipe, path: Path, only: list[str]) -> None:
        quantize_static(
            self.prepared,
            path,
            Calibration(self.model, self.dataset),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(recipe.operators) or None,
            per_channel=True,
            reduce_range=recipe.reduce_range,
            activation_type=QuantType.QInt8 if recipe.signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=only,
            nodes_to_exclude=[*float_ends(self.prepared), *recipe.in_float],
            calibrate_method=METHODS[recipe.calibration],
            extra_options={"ActivationSymmetric": True} if recipe.symmetric else None,
            calibration_cache_path=self.scratch / f"{recipe.calibration} {' '.join(recipe.operators)}.json",
        )

    def _dynamic(self, recipe: Recipe, path: Path, only: list[str]) -> None:
        quantize_dynamic(
            self.prepared,
            path,
            op_types_to_quantize=list(recipe.operators) or None,
            per_channel=True,
            reduce_range=recipe.reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=_as_products(only),
            nodes_to_exclude=_as_products(recipe.in_float),
        )
        model = onnx.load(str(path))
        share_tables(model.graph)
        onnx.save(model, str(path))

    def _weights(self, recipe: Recipe, path: Path, only: list[str]) -> None:
        """Weight-only quantisation: matrix products in blocks, tables in int8, since 4-bit tables would need opset 21."""
        graph = ONNXModel(onnx.load(str(self.prepared)))
        in_float = [node.name for node in graph.model.graph.node if (only and node.name not in only) or node.name in recipe.in_float]
        graph.replace_gemm_with_matmul()
        MatMulNBitsQuantizer(
            graph.model,
            bits=recipe.bits,
            block_size=BLOCK,
            accuracy_level=None if recipe.target == "gpu" else INT8_SUMS,
            nodes_to_exclude=_as_products(in_float),
        ).process()
        onnx.save(graph.model, str(path))
        if "Gather" in recipe.operators:
            quantize_dynamic(path, path, op_types_to_quantize=["Gather"], weight_type=QuantType.QInt8, nodes_to_exclude=in_float)

    def _fp16(self, recipe: Recipe, path: Path, only: list[str]) -> None:
        """Half precision; inputs, outputs and the elementwise nodes next to them stay float32."""
        graph = onnx.load(str(self.prepared))
        tables = {node.name for node in graph.graph.node if node.op_type == "Gather"}
        ends = [name for name in float_ends(self.prepared) if name not in tables]
        onnx.save(convert_float_to_float16(graph, keep_io_types=True, node_block_list=ends), str(path))


def _as_products(nodes: Sequence[str]) -> list[str]:
    """The names of nodes after each Gemm has been replaced by MatMul and Add."""
    return [name for node in nodes for name in (node, f"{node}_MatMul")]


def float_ends(graph: Path) -> list[str]:
    """The elementwise nodes before the first and after the last layer with weights: normalisation, temperature, softmax.

    They take hardly any time, and int8 would make them too coarse.
    """
    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    weighty = [index for index, node in enumerate(nodes) if node.op_type in ("Conv", *MATMULS)]
    if not weighty:
        return []
    return [node.name for index, node in enumerate(nodes) if index < weighty[0] or index > weighty[-1]]


class Calibration(CalibrationDataReader):
    """Reads calibration inputs: training examples at even distances over the split."""

    def __init__(self, model: OnnxModel, dataset: Dataset) -> None:
        count = len(model.usecase.examples(dataset.folder, "train"))
        rows = np.linspace(0, count - 1, min(CALIBRATION_EXAMPLES, count)).astype(np.int64)
        # all batches have the same size: otherwise the histograms of percentile and entropy could not be merged
        size = min(CALIBRATION_BATCH, len(rows))
        batches = range(0, len(rows) - size + 1, size)
        self.batches = (model.usecase.calibration_inputs(dataset.folder, rows[start : start + size]) for start in batches)

    def get_next(self) -> Arrays | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self.batches, None)
