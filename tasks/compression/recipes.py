"""The ways to a smaller graph that are worth trying, for a graph and for the processor that will run it. The records load no onnx."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.contract.records import Record
from tasks.machine import cpu
from tasks.settings import Target

MATMULS = ("MatMul", "Gemm")
WITH_MATMULS = ("LSTM", "Gather")  # quantised dynamically where there are matrix products
FOLLOWERS = ("Add", "MaxPool", "Relu")  # of a convolution: int8 too, or every layer pays a conversion to float
FAST_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}  # x64 without one of them: int8 sums of pairs saturate at 16 bits
ARM_INT8 = {"asimddp", "i8mm"}
LARGE = 1_000_000  # bytes of weights in matrix products and tables, from which to quantise weights alone pays


class Recipe(Record):
    """One way to a smaller graph."""

    kind: Literal["static", "dynamic", "weights", "fp16"] = Field(
        description="int8 with ranges of activations found beforehand, or for each request; only weights in 8 or 4 bits; half precision"
    )
    operators: tuple[str, ...] = Field(default=(), description="which are quantised; none named: all that can be")
    calibration: Literal["minmax", "percentile", "entropy"] = "minmax"
    signed: bool = Field(default=False, description="activations as int8 instead of uint8: right on ARM, slow on x64")
    symmetric: bool = Field(default=False, description="activations around zero, as TensorRT wants them")
    reduce_range: bool = Field(default=False, description="7-bit weights, for CPUs whose int8 sums saturate")
    bits: Literal[4, 8] = Field(default=8, description="of weights, where they alone are quantised")
    in_float: tuple[str, ...] = Field(default=(), description="nodes that were given back to float, the worst first")
    operator_count: int = Field(default=0, description="of the recipe with none in float")
    target: Target = Field(default="this", description="the processor it is for, where that is not this machine's")

    @property
    def label(self) -> str:
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
    """What was tried, best first, and the recipes that become candidates."""

    recipes: tuple[Recipe, ...] = Field(description="the best of each kind, and with it the one that was fast but missed the budget")
    tried: tuple[dict[str, float | str], ...] = Field(description="a row per recipe: label, validation score, MB, p50 ms, times faster")
    skipped: tuple[str, ...] = Field(default=(), description="labels of the recipes that could not have won")


def recipes(graph: Path, target: Target = "this") -> list[Recipe]:
    """The recipes for a graph on a processor, the most promising first.

    Dynamic quantisation of convolutions runs unoptimised in ONNX Runtime, four times slower than fp32: not offered. Activations are
    unsigned on x64, where int8 kernels want them so, signed on ARM, and symmetric for TensorRT, which has no other. fp16 is offered for
    GPUs alone: on a CPU it halves the size and nothing else.
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
    """In 8 and 4 bits, where large matrix products and tables make up most of the graph."""
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
    """Whether this machine's processor is of that kind; latency is measured on its CPU, whatever the target."""
    flags = set(cpu().split())
    fast, arm = bool(flags & FAST_INT8), bool(flags & ARM_INT8)
    return {"this": True, "vnni": fast, "avx2": "avx2" in flags and not fast, "arm": arm, "gpu": False}[target]


def layers(graph: Path) -> Counter[str]:
    """The number of nodes of each kind."""
    import onnx

    return Counter(node.op_type for node in onnx.load(str(graph), load_external_data=False).graph.node)


def is_convolutional(counts: Counter[str]) -> bool:
    """Whether convolutions lead, as in a CNN with a head; a transformer has one for its patches at most."""
    return counts["Conv"] >= sum(counts[kind] for kind in MATMULS)


def is_mixed(counts: Counter[str]) -> bool:
    """Whether neither convolutions nor matrix products are a matter of the first or last layer alone."""
    products = sum(counts[kind] for kind in MATMULS)
    return 4 * min(counts["Conv"], products) > counts["Conv"] + products


def weight_bytes(graph: Path, operators: tuple[str, ...]) -> tuple[int, int]:
    """Bytes of the constants that nodes of these kinds read, and of all constants."""
    import onnx

    model = onnx.load(str(graph))
    sizes = {constant.name: constant.ByteSize() for constant in model.graph.initializer}
    read = {name for node in model.graph.node if node.op_type in operators for name in node.input}
    return sum(size for name, size in sizes.items() if name in read), sum(sizes.values())
