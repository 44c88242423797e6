"""Quantised bundles, by ONNX Runtime."""

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
BLOCK = 32  # weights that share a scale, where weights alone are quantised
INT8_SUMS = 4  # MatMulNBits' accuracy_level: activations in int8, too, which is where its speed on CPUs comes from
METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}


def quantize(model: OnnxModel, dataset: Dataset, recipe: Recipe, tried: Sequence[dict[str, Any]], work: Path) -> dict[str, Any]:
    """Fill `work` with the quantised bundle; returns the fields of its `OnnxModel`. The input is not touched.

    Args:
        tried: a row for each recipe that was measured, written to `logs/`: latencies differ from run to run, and the digest of a bundle
            must not.
    """
    apply(recipe, model, dataset, work / GRAPH)
    (work / TABLE).parent.mkdir(exist_ok=True)
    (work / TABLE).write_text(json.dumps(list(tried), indent=1))
    label = recipe.label if model.role == "full" else f"{model.label}, {recipe.label}"
    fields = write_bundle(work, label, model.usecase, model.assets, dataset)
    return {**fields, "role": "compressed"}


def apply(recipe: Recipe, model: OnnxModel, dataset: Dataset, path: Path) -> None:
    """Write the graph of `model`, quantised, to `path`."""
    with tempfile.TemporaryDirectory() as scratch:
        Quantizer(model, dataset, Path(scratch)).write(recipe, path)


class Quantizer:
    """Writes one graph by many recipes: it is prepared once, and the ranges of its activations are measured once for each calibration."""

    def __init__(self, model: OnnxModel, dataset: Dataset, scratch: Path) -> None:
        self.model, self.dataset, self.scratch = model, dataset, scratch
        self.plain, self.prepared = scratch / GRAPH, scratch / "prepared.onnx"
        self.plain.write_bytes(read_graph(stored_graph(model.folder)))
        with silence():
            # no symbolic shapes: they change nothing, and where they fail, files are left wherever the process stands
            quant_pre_process(self.plain, self.prepared, skip_symbolic_shape=True)

    def write(self, recipe: Recipe, path: Path, only: Sequence[str] = ()) -> None:
        """The graph by a recipe; with `only`, just those nodes are quantised."""
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
        """Matrix products in blocks; tables in int8, since 4 bits of them would need opset 21."""
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
        """Half precision inside; inputs, outputs and what is computed at the ends stay float32."""
        graph = onnx.load(str(self.prepared))
        tables = {node.name for node in graph.graph.node if node.op_type == "Gather"}
        ends = [name for name in float_ends(self.prepared) if name not in tables]
        onnx.save(convert_float_to_float16(graph, keep_io_types=True, node_block_list=ends), str(path))


def _as_products(nodes: Sequence[str]) -> list[str]:
    """The names that these nodes have once Gemm has been written as MatMul and Add."""
    return [name for node in nodes for name in (node, f"{node}_MatMul")]


def float_ends(graph: Path) -> list[str]:
    """The elementwise nodes before the first and after the last layer with weights: normalisation, temperature, softmax.

    They cost nothing, and int8 would spoil what they are for.
    """
    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    weighty = [index for index, node in enumerate(nodes) if node.op_type in ("Conv", *MATMULS)]
    if not weighty:
        return []
    return [node.name for index, node in enumerate(nodes) if index < weighty[0] or index > weighty[-1]]


class Calibration(CalibrationDataReader):
    """Inputs of training examples, spread over the split."""

    def __init__(self, model: OnnxModel, dataset: Dataset) -> None:
        count = len(model.usecase.examples(dataset.folder, "train"))
        rows = np.linspace(0, count - 1, min(CALIBRATION_EXAMPLES, count)).astype(np.int64)
        # batches of one size only: the histograms of percentile and entropy cannot be merged otherwise
        size = min(CALIBRATION_BATCH, len(rows))
        batches = range(0, len(rows) - size + 1, size)
        self.batches = (model.usecase.calibration_inputs(dataset.folder, rows[start : start + size]) for start in batches)

    def get_next(self) -> Arrays | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self.batches, None)
