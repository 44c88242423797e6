"""int8 by ONNX Runtime: no fixed recipe wins, so each is tried and measured."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from pydantic import Field

from tasks.artifacts import Dataset, OnnxModel
from tasks.evaluation.measure import real_inputs, time_in_turns
from tasks.exporting.bundle import pack, write_bundle
from tasks.exporting.export import silence
from tasks.machine import cpu
from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.graph_files import GRAPH, PACKED, read_graph, stored_graph
from tasks.usecase import Arrays, Record, Say, silently

MATMULS = ("MatMul", "Gemm")
WITH_MATMULS = ("LSTM", "Gather")  # quantised dynamically where there are matrix products
FOLLOWERS = ("Add", "MaxPool", "Relu")  # of a convolution: int8 too, or every layer pays a conversion to float
CALIBRATION_EXAMPLES = 512
CALIBRATION_BATCH = 32
ROUNDS = 6
FAST_INT8 = ("vnni", "amx_int8", "asimddp", "i8mm")  # without one of them int8 sums of pairs saturate at 16 bits: 7-bit weights


class Recipe(Record):
    """One way to int8."""

    kind: Literal["static", "dynamic"]
    operators: tuple[str, ...] = Field(default=(), description="which are quantised; none named: all that can be")
    calibration: Literal["minmax", "percentile", "entropy"] = "minmax"
    signed: bool = Field(default=False, description="activations as int8 instead of uint8: right on ARM, slow on x64")
    reduce_range: bool = Field(default=False, description="7-bit weights, for CPUs whose int8 sums saturate")

    @property
    def label(self) -> str:
        static = self.kind == "static"
        parts = [
            f"int8 {self.kind}",
            "S8S8" if static and self.signed else "",
            self.calibration if static else "",
            "chained" if set(FOLLOWERS) <= set(self.operators) else "+".join(self.operators) or "all",
            "7-bit" if self.reduce_range else "",
        ]
        return " ".join(part for part in parts if part)


def recipes(model: OnnxModel) -> list[Recipe]:
    """The recipes worth trying for a model on this CPU.

    Dynamic quantisation of convolutions runs unoptimised in ONNX Runtime, four times slower than fp32: not offered.
    Activations are unsigned on x64, where int8 kernels want them so, and signed on ARM.
    """
    flags = cpu()
    reduce_range = not any(flag in flags for flag in FAST_INT8)
    signed = "asimddp" in flags or "i8mm" in flags
    graph = onnx.load_model_from_string(read_graph(stored_graph(model.folder))).graph
    kinds = {node.op_type for node in graph.node}
    weighty = tuple(kind for kind in ("Conv", *MATMULS) if kind in kinds)
    found = []
    if kinds & set(MATMULS):
        found.append(Recipe(kind="dynamic", operators=tuple(kind for kind in (*MATMULS, *WITH_MATMULS) if kind in kinds)))
    if "Conv" in kinds:
        found += [
            Recipe(kind="static", operators=(*weighty, *FOLLOWERS), calibration=method) for method in ("minmax", "percentile", "entropy")
        ]
    if weighty:
        found += [Recipe(kind="static", operators=weighty), Recipe(kind="static")]
    return [recipe.model_copy(update={"reduce_range": reduce_range, "signed": signed}) for recipe in found]


class Search(Record):
    """What was tried, best first, and the best recipe of each kind."""

    recipes: tuple[Recipe, ...]
    tried: tuple[dict[str, float | str], ...] = Field(description="a row per recipe: label, validation score, MB, p50 ms, times faster")


def search(model: OnnxModel, dataset: Dataset, max_loss: float, say: Say = silently) -> Search:
    """Try every recipe on validation and on the clock, in turns with the full-precision graph.

    Best is the fastest of a kind whose validation score is within `max_loss` of the full-precision graph's.
    """
    monitor = model.usecase.monitor
    reference = open_bundle(model.folder)
    base = model.usecase.score(reference.predict, dataset.folder, "validation")[monitor]
    offered = recipes(model)
    with tempfile.TemporaryDirectory() as scratch:
        opened = [reference, *(_tried(recipe, model, dataset, Path(scratch) / str(i), say) for i, recipe in enumerate(offered))]
        scores = [model.usecase.score(bundle.predict, dataset.folder, "validation")[monitor] for bundle in opened[1:]]
        one = real_inputs(model, dataset, 1)
        latencies = time_in_turns([partial(bundle.predict, one) for bundle in opened], ROUNDS)
        sizes = [stored_graph(bundle.folder).stat().st_size / 1e6 for bundle in opened[1:]]
    ranked = sorted(zip(offered, scores, latencies[1:], sizes, strict=True), key=lambda row: (base - row[1] > max_loss, row[2].p50))
    rows = [
        {
            "label": r.label,
            monitor: round(score, 4),
            "p50 ms": round(t.p50, 4),
            "times faster": round(latencies[0].p50 / t.p50, 2),
            "MB": round(mb, 3),
        }
        for r, score, t, mb in ranked
    ]
    best = {row[0].kind: row[0] for row in reversed(ranked)}
    return Search(recipes=tuple(best.values()), tried=tuple(rows))


def _tried(recipe: Recipe, model: OnnxModel, dataset: Dataset, folder: Path, say: Say) -> Bundle:
    say(recipe.label)
    shutil.copytree(model.folder, folder, ignore=shutil.ignore_patterns(GRAPH, PACKED))
    apply(recipe, model, dataset, folder / GRAPH)
    pack(folder)
    return open_bundle(folder)


def quantize(model: OnnxModel, dataset: Dataset, recipe: Recipe, tried: Sequence[dict[str, Any]], work: Path) -> dict[str, Any]:
    """Fill `work` with the quantised bundle; returns the fields of its `OnnxModel`. The input is not touched."""
    apply(recipe, model, dataset, work / GRAPH)
    (work / "quantization.json").write_text(json.dumps(list(tried), indent=1))
    label = recipe.label if model.role == "full" else f"{model.label}, {recipe.label}"
    fields = write_bundle(work, label, model.usecase, model.assets, dataset, (model.digest, dataset.digest))
    return {**fields, "role": "compressed"}


def apply(recipe: Recipe, model: OnnxModel, dataset: Dataset, path: Path) -> None:
    """Write the graph of `model`, quantised, to `path`."""
    with tempfile.TemporaryDirectory() as scratch, silence():
        plain, prepared = Path(scratch) / GRAPH, Path(scratch) / "prepared.onnx"
        plain.write_bytes(read_graph(stored_graph(model.folder)))
        # no symbolic shapes: they change nothing, and where they fail, files are left wherever the process stands
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        operators = list(recipe.operators) or None
        if recipe.kind == "dynamic":
            quantize_dynamic(
                prepared,
                path,
                op_types_to_quantize=operators,
                per_channel=True,
                reduce_range=recipe.reduce_range,
                weight_type=QuantType.QInt8,
            )
            return
        quantize_static(
            prepared,
            path,
            Calibration(model, dataset),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operators,
            per_channel=True,
            reduce_range=recipe.reduce_range,
            activation_type=QuantType.QInt8 if recipe.signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=float_ends(prepared),
            calibrate_method=METHODS[recipe.calibration],
        )


METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}


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
