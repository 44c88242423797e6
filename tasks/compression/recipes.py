"""Recipes of quantisation: those worth trying for a graph and a target processor. The records load no onnx."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.contract.records import Record
from tasks.machine import cpu
from tasks.settings import Target

MATMULS = ("MatMul", "Gemm")
WITH_MATMULS = ("LSTM", "Gather")  # quantised dynamically if the graph has matrix products
FOLLOWERS = ("Add", "MaxPool", "Relu")  # after a convolution: in int8, too, or each layer would convert to float and back
FAST_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}  # x64 without one of these flags: int8 sums of pairs saturate at 16 bits
ARM_INT8 = {"asimddp", "i8mm"}
LARGE = 1_000_000  # bytes of weights in matrix products and tables from which weight-only quantisation pays


class Recipe(Record):
    """Settings of one quantisation."""

    kind: Literal["static", "dynamic", "weights", "fp16"] = Field(
        description="static: int8 with calibrated ranges of activations; dynamic: int8 with ranges computed for each request; weights: only "
        "weights in 8 or 4 bits; fp16: half precision"
    )
    operators: tuple[str, ...] = Field(default=(), description="types of the operators to quantise; empty: all that can be quantised")
    calibration: Literal["minmax", "percentile", "entropy"] = "minmax"
    signed: bool = Field(default=False, description="activations as int8 instead of uint8: right on ARM, slow on x64")
    symmetric: bool = Field(default=False, description="ranges of activations symmetric about zero, which TensorRT needs")
    reduce_range: bool = Field(default=False, description="7-bit weights, for CPUs whose int8 sums saturate")
    bits: Literal[4, 8] = Field(default=8, description="bits of the weights in weight-only quantisation")
    in_float: tuple[str, ...] = Field(default=(), description="names of nodes that stay in float, the most harmful first")
    operator_count: int = Field(default=0, description="number of nodes that the recipe quantises if none stays in float")
    target: Target = Field(default="this", description="the target processor; this: that of this machine")

    @property
    def label(self) -> str:
        """Name of the recipe in reports, such as "int8 static entropy chained"."""
        static = self.kind == "static"
        parts = [
            {"fp16": "fp16", "weights": f"{self.bits}-bit weights"}.get(self.kind, f"int8 {self.kind}"),
            "S8S8" if static and self.signed else "",
            "symmetric" if static and self.symmetric else "",
            self.calibration if static else "",
            "" if self.kind == "fp16" else "chained" if set(FOLLOWERS) <= set(self.operators) else "+".join(self.operators) or "all",
            "7-bit" if self.reduce_range else "",
            "" if self.target == "this" else f"for {self.target}",
        ]
        floats = f", {len(self.in_float)} of {self.operator_count} in float" if self.in_float else ""
        return " ".join(part for part in parts if part) + floats


class Search(Record):
    """Result of the search for the best recipe."""

    recipes: tuple[Recipe, ...] = Field(
        description="the recipes that become candidates: the best of each kind, and fast ones that are within the budget with some nodes in float"
    )
    tried: tuple[dict[str, float | str], ...] = Field(
        description="a row per measured recipe, best first: label, validation score, MB, p50 ms, times faster"
    )
    skipped: tuple[str, ...] = Field(default=(), description="labels of the recipes that were not measured, since they could not win")


def recipes(graph: Path, target: Target = "this") -> list[Recipe]:
    """The recipes for a graph on a target processor, the most promising first.

    Convolutions are not quantised dynamically: ONNX Runtime runs them unoptimised, four times slower than fp32. Activations are unsigned on
    x64, whose int8 kernels expect that, signed on ARM, and symmetric for TensorRT, which supports nothing else. fp16 is offered for GPUs
    only: on a CPU it halves the size, but is no faster.
    """
    counts = layers(graph)
    weighty = tuple(kind for kind in ("Conv", *MATMULS) if kind in counts)
    found = [*_int8(counts, weighty, target), *_weights(graph, counts)]
    if target == "gpu":
        found = [Recipe(kind="fp16"), *(recipe for recipe in found if recipe.kind != "dynamic")]
    foreign = {} if is_here(target) else {"target": target}
    return [recipe.model_copy(update=_flags(recipe, target) | foreign) for recipe in found]


def _int8(counts: Counter[str], weighty: tuple[str, ...], target: Target) -> list[Recipe]:
    dynamic, static = [], []
    if any(kind in counts for kind in MATMULS):
        dynamic.append(Recipe(kind="dynamic", operators=tuple(kind for kind in (*MATMULS, *WITH_MATMULS) if kind in counts)))
    if "Conv" in counts:
        chained = (*weighty, *FOLLOWERS)
        static += [Recipe(kind="static", operators=chained, calibration=method) for method in ("minmax", "percentile", "entropy")]
    if weighty:
        static += [Recipe(kind="static", operators=weighty), Recipe(kind="static")]
    return [*static, *dynamic] if is_convolutional(counts) else [*dynamic, *sorted(static, key=lambda r: r.operators != weighty)]


def _weights(graph: Path, counts: Counter[str]) -> list[Recipe]:
    """Weight-only recipes in 8 and 4 bits, if large matrix products and tables make up most of the graph."""
    operators = tuple(kind for kind in (*MATMULS, "Gather") if kind in counts)
    inside, in_all = weight_bytes(graph, operators)
    if not any(kind in counts for kind in MATMULS) or inside < max(LARGE, in_all / 2):
        return []
    return [Recipe(kind="weights", operators=operators, bits=bits) for bits in (8, 4)]


def _flags(recipe: Recipe, target: Target) -> dict[str, bool]:
    if recipe.kind in ("weights", "fp16"):
        return {}
    flags = set(cpu().split())
    arm = target == "arm" or (target == "this" and bool(flags & ARM_INT8))
    saturates = target == "avx2" or (target == "this" and not flags & (FAST_INT8 | ARM_INT8))
    return {"signed": arm or target == "gpu", "symmetric": target == "gpu", "reduce_range": saturates}


def is_here(target: Target) -> bool:
    """Whether the CPU of this machine is of the target's kind. Latency is measured on this CPU for every target."""
    flags = set(cpu().split())
    fast, arm = bool(flags & FAST_INT8), bool(flags & ARM_INT8)
    return {"this": True, "vnni": fast, "avx2": "avx2" in flags and not fast, "arm": arm, "gpu": False}[target]


def layers(graph: Path) -> Counter[str]:
    """The number of nodes of each operator type in a graph."""
    import onnx

    return Counter(node.op_type for node in onnx.load(str(graph), load_external_data=False).graph.node)


def is_convolutional(counts: Counter[str]) -> bool:
    """Whether a graph has at least as many convolutions as matrix products, as a CNN does; a transformer has at most one, for its patches."""
    return counts["Conv"] >= sum(counts[kind] for kind in MATMULS)


def is_mixed(counts: Counter[str]) -> bool:
    """Whether a graph has many convolutions and many matrix products: more than a quarter of their sum each."""
    products = sum(counts[kind] for kind in MATMULS)
    return 4 * min(counts["Conv"], products) > counts["Conv"] + products


def weight_bytes(graph: Path, operators: tuple[str, ...]) -> tuple[int, int]:
    """Bytes of the constants that nodes of these types read, and of all constants."""
    import onnx

    model = onnx.load(str(graph))
    sizes = {constant.name: constant.ByteSize() for constant in model.graph.initializer}
    read = {name for node in model.graph.node if node.op_type in operators for name in node.input}
    return sum(size for name, size in sizes.items() if name in read), sum(sizes.values())
