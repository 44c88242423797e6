"""The contract of quantisation: every recipe gives a smaller, accurate bundle, and does not change its input."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest

from tasks import store
from tasks.compression import recipes as offers
from tasks.compression import search as searching
from tasks.compression.quantize import Quantizer, apply, quantize
from tasks.compression.recipes import FOLLOWERS, MATMULS, Recipe, recipes
from tasks.compression.search import Bench, is_worth_trying, restore_float, search
from tasks.compression.sensitivity import fewest_in_float, rank_operators
from tasks.contract.artifacts import Checkpoint, Dataset, Interval, OnnxModel
from tasks.contract.records import write_typed
from tasks.evaluation.validation import Comparison, Scored
from tasks.exporting.export import export
from tasks.serving.bundle import open_bundle
from tasks.serving.graph_files import GRAPH
from tasks.settings import Budget, Fit
from tasks.train import fit_network
from tests.toy import ToyUseCase


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxModel, Dataset]:
    usecase = ToyUseCase(hidden=256)

    def build(folder: Path) -> dict[str, object]:
        card = usecase.prepare(folder)
        (folder / "card.json").write_text(json.dumps(card))
        return {"usecase": usecase, "sizes": card["sizes"]}

    dataset, _ = store.make(Dataset, {"for": "compression"}, build)
    checkpoint: Checkpoint = fit_network("train", usecase, dataset, Fit(epochs=8, batch_size=32, learning_rate=0.02))
    model, _ = store.make(OnnxModel, {"of": checkpoint.digest}, lambda work: export(checkpoint, dataset, work))
    return model, dataset


RECIPES = [
    Recipe(kind="dynamic", operators=MATMULS),
    Recipe(kind="static", operators=MATMULS),
    Recipe(kind="static", calibration="percentile"),
    Recipe(kind="static", calibration="entropy", signed=True),
    Recipe(kind="static", reduce_range=True),
    Recipe(kind="static", signed=True, symmetric=True, target="gpu"),
    Recipe(kind="weights", operators=MATMULS, bits=8),
    Recipe(kind="weights", operators=MATMULS, bits=4),
    Recipe(kind="fp16", target="gpu"),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.label)
def test_a_recipe_gives_an_accurate_bundle(recipe: Recipe, bundle: tuple[OnnxModel, Dataset], tmp_path: Path) -> None:
    model, dataset = bundle
    before = store.content_digest(model.folder)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    fields = quantize(model, dataset, recipe, [{"label": recipe.label, "p50 ms": 1.0}], one)
    quantize(model, dataset, recipe, [{"label": recipe.label, "p50 ms": 1.1}], two)  # latencies are never the same twice
    assert store.content_digest(model.folder) == before
    assert store.content_digest(one) == store.content_digest(two)
    assert fields["label"] == recipe.label
    full, small = open_bundle(model.folder), open_bundle(one)
    assert [(v.name, v.type) for v in small.session.get_outputs()] == [(v.name, v.type) for v in full.session.get_outputs()]
    points = {"point": np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)}
    agreed = full.predict(points)["probabilities"].argmax(1) == small.predict(points)["probabilities"].argmax(1)
    assert agreed.mean() > 0.9
    assert small.answer([[3.0, 3.0]])[0]["label"] == "b"


@pytest.mark.parametrize(
    ("recipe", "share"),
    [
        (Recipe(kind="dynamic", operators=MATMULS), 0.27),
        (Recipe(kind="static", operators=MATMULS), 0.27),
        (Recipe(kind="weights", operators=MATMULS, bits=8), 0.32),
        (Recipe(kind="weights", operators=MATMULS, bits=4), 0.18),
        (Recipe(kind="fp16"), 0.51),
    ],
    ids=lambda value: value.label if isinstance(value, Recipe) else "",
)
def test_weights_shrink_as_they_should(recipe: Recipe, share: float, tmp_path: Path) -> None:
    graph = product_of(tmp_path, 512)
    model = OnnxModel(digest="", usecase=ToyUseCase(), label="", megabytes=0).at(tmp_path)
    dataset = Dataset(digest="", usecase=ToyUseCase(), sizes={}).at(tmp_path)
    ToyUseCase().prepare(tmp_path)
    (tmp_path / "scratch").mkdir()
    Quantizer(model, dataset, tmp_path / "scratch").write(recipe, tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < share * graph.stat().st_size


def product_of(folder: Path, width: int) -> Path:
    """A graph with a matrix product of `width` times `width` weights."""
    random = np.random.default_rng(0)
    weights = {"in": (2, width), "weight": (width, width), "out": (width, 2)}
    tensors = [onnx.numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name) for name, shape in weights.items()]
    names = ["point", "a", "b", "probabilities"]
    nodes = [
        onnx.helper.make_node("MatMul", [left, weight], [right], f"product_{weight}")
        for left, weight, right in zip(names, weights, names[1:], strict=False)
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 2]) for name in (names[0], names[-1])]
    graph = onnx.helper.make_graph(nodes, "product", ends[:1], ends[1:], tensors)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx")
    return folder / "model.onnx"


def test_weight_only_recipes_are_offered_for_graphs_with_large_products(tmp_path: Path, bundle: tuple[OnnxModel, Dataset]) -> None:
    (tmp_path / "large").mkdir()
    offered = [recipe.label for recipe in recipes(product_of(tmp_path / "large", 512))]
    assert {"8-bit weights MatMul", "4-bit weights MatMul"} <= set(offered)
    assert not any(recipe.kind == "weights" for recipe in recipes(bundle[0].folder / GRAPH)), "products of 256 units are not large"


def test_the_target_decides_the_flags(bundle: tuple[OnnxModel, Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "cpu", lambda: "Some CPU avx2 avx512_vnni")
    graph = bundle[0].folder / GRAPH

    def static(target: str) -> Recipe:
        return next(recipe for recipe in recipes(graph, target) if recipe.kind == "static")  # pyright: ignore[reportArgumentType]

    assert static("vnni") == static("this"), "this machine has VNNI"
    assert static("this").label == "int8 static minmax Gemm"
    assert static("avx2").label == "int8 static minmax Gemm 7-bit for avx2"
    assert static("arm").label == "int8 static S8S8 minmax Gemm for arm"
    assert static("gpu").label == "int8 static S8S8 symmetric minmax Gemm for gpu"
    kinds = {target: {recipe.kind for recipe in recipes(graph, target)} for target in ("this", "gpu")}
    assert kinds == {"this": {"static", "dynamic"}, "gpu": {"static", "fp16"}}


def test_the_search_ranks_by_measurement(bundle: tuple[OnnxModel, Dataset]) -> None:
    model, dataset = bundle
    offered = recipes(model.folder / GRAPH)
    assert not any("Conv" in recipe.operators for recipe in offered), "there is no convolution"
    every = search(model, dataset, Budget(max_loss=0.05), exhaustive=True)
    assert {row["label"] for row in every.tried} <= {recipe.label for recipe in offered}
    assert {"label", "accuracy", "p50 ms", "MB"} <= set(every.tried[0])
    assert every.skipped == ()
    grown = search(model, dataset, Budget(max_loss=0.05, target="arm"))
    assert [row["label"] for row in grown.tried] == [recipes(model.folder / GRAPH, "arm")[0].label]
    assert grown.tried[0]["timed"] == "on this machine's CPU, not on arm"


CHAINED, WEIGHTY, ALL = (Recipe(kind="static", operators=kinds) for kinds in (("Conv", *FOLLOWERS), ("Conv",), ()))
ENTROPY, DYNAMIC = CHAINED.model_copy(update={"calibration": "entropy"}), Recipe(kind="dynamic", operators=MATMULS)
WEIGHTS8, WEIGHTS4 = (Recipe(kind="weights", operators=MATMULS, bits=bits) for bits in (8, 4))
PRODUCTS = Recipe(kind="static", operators=MATMULS)
CNN, TRANSFORMER, MIXED = Counter(Conv=20, Gemm=1), Counter(Conv=1, MatMul=48), Counter(Conv=20, MatMul=20)


@pytest.mark.parametrize(
    ("counts", "losses", "wanted", "skipped"),
    [
        (CNN, [(CHAINED, 0.001)], [ALL], [ENTROPY, WEIGHTY, DYNAMIC, WEIGHTS8]),
        (CNN, [(CHAINED, 0.004)], [ALL, ENTROPY, WEIGHTY], [DYNAMIC]),
        (CNN, [(CHAINED, 0.010)], [ENTROPY, WEIGHTY], [ALL, DYNAMIC]),
        (TRANSFORMER, [(DYNAMIC, 0.001)], [], [PRODUCTS, ALL, WEIGHTS8, WEIGHTS4]),
        (TRANSFORMER, [(DYNAMIC, 0.010)], [PRODUCTS, WEIGHTS8], [WEIGHTS4]),
        (MIXED, [(CHAINED, 0.001)], [DYNAMIC, ALL], [WEIGHTY]),
    ],
)
def test_the_search_skips_what_cannot_win(
    counts: Counter[str], losses: list[tuple[Recipe, float]], wanted: list[Recipe], skipped: list[Recipe]
) -> None:
    budget, trials = Budget(max_loss=0.005), [(recipe, compared(loss)) for recipe, loss in losses]
    assert [recipe.label for recipe in wanted if not is_worth_trying(recipe, trials, counts, budget)] == []
    assert [recipe.label for recipe in skipped if is_worth_trying(recipe, trials, counts, budget)] == []


def compared(loss: float, high: float | None = None) -> Comparison:
    gain = None if high is None else Interval(measured=-loss, low=-2 * loss, high=high)
    return Comparison(score=0.9 - loss, reference=0.9, gain=gain)


def test_a_trial_whose_loss_is_not_significant_is_within_the_budget() -> None:
    budget = Budget(max_loss=0.005)
    assert is_worth_trying(WEIGHTS8, [(DYNAMIC, compared(0.008, high=-0.001))], TRANSFORMER, budget)
    assert not is_worth_trying(WEIGHTS8, [(DYNAMIC, compared(0.008, high=0.001))], TRANSFORMER, budget)


def test_four_bits_are_tried_where_size_counts() -> None:
    assert is_worth_trying(WEIGHTS4, [(DYNAMIC, compared(0))], TRANSFORMER, Budget(objective="size"))
    assert is_worth_trying(WEIGHTS4, [(DYNAMIC, compared(0))], TRANSFORMER, Budget(max_megabytes=10))


@pytest.mark.parametrize("needed", [1, 2, 3, 7, 8, 11, 20, 21])
def test_the_fewest_operators_stay_in_float(needed: int) -> None:
    asked: list[int] = []

    def is_within(recipe: Recipe) -> bool:
        asked.append(len(recipe.in_float))
        return len(recipe.in_float) >= needed

    found = fewest_in_float(CHAINED, [f"node {number}" for number in range(41)], is_within)
    if needed > 20:
        assert found is None, "half of them are not worth it"
    else:
        assert found is not None
        assert found.label == f"int8 static minmax chained, {needed} of 41 in float"
        assert len(asked) == len(set(asked)) <= 2 * needed.bit_length() + 2


@pytest.fixture
def spoilt(tmp_path: Path) -> tuple[OnnxModel, Dataset]:
    """A model that is always right in float, and whose middle product is noise in int8."""
    graph = onnx.load(product_of(tmp_path, 64))
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    for name, row, factor in (("in", (slice(None), 0), 0), ("weight", 0, 1000)):  # large weights of a unit that is always zero
        values = onnx.numpy_helper.to_array(tensors[name]).copy()
        values[row] *= factor
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    onnx.save(graph, tmp_path / "model.onnx")
    usecase = ToyUseCase()
    card = usecase.prepare(tmp_path)
    (tmp_path / "usecase.json").write_text(json.dumps(write_typed(usecase)))
    points = {"point": np.load(tmp_path / "validation" / "point.npy")}
    np.save(tmp_path / "validation" / "label.npy", open_bundle(tmp_path).predict(points)["probabilities"].argmax(1))
    model = OnnxModel(digest="", usecase=usecase, label="", megabytes=0).at(tmp_path)
    return model, Dataset(digest="", usecase=usecase, sizes=card["sizes"]).at(tmp_path)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_the_operator_with_the_largest_error_stays_in_float(
    kind: Literal["static", "dynamic"], spoilt: tuple[OnnxModel, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe, words = Recipe(kind=kind, operators=("MatMul",)), list[str]()
    bench = Bench(*spoilt, tmp_path_factory.mktemp("bench"), words.append)
    assert bench.attempt(recipe).loss > 0.2
    found = restore_float(bench, recipe, Budget(max_loss=0.05))
    assert found is not None
    assert found.in_float == ("product_weight",)
    assert found.label.endswith("MatMul, 1 of 3 in float")
    assert f"{recipe.label} is fast, but misses the budget; measuring the error of each operator" in words
    ranked = rank_operators(bench.quantizer, recipe)
    assert ranked == rank_operators(bench.quantizer, recipe)
    assert sorted(ranked) == ["product_in", "product_out", "product_weight"]
    trials = len(bench.trials)
    trial = bench.attempt(found)
    assert trial.loss <= 0.05
    assert len(bench.trials) == trials, "the same graph is not scored again"
    apply(found, *spoilt, spoilt[0].folder / "again.onnx")
    assert store.file_digest(spoilt[0].folder / "again.onnx") == store.file_digest(trial.bundle.folder / "model.onnx")


def test_a_recipe_that_stays_over_the_budget_is_reported(
    spoilt: tuple[OnnxModel, Dataset], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, words = Recipe(kind="dynamic", operators=("MatMul",)), list[str]()
    bench = Bench(*spoilt, tmp_path_factory.mktemp("bench"), words.append)
    bench.base = Scored("accuracy", {"accuracy": 2.0})  # a score that no model can reach
    assert restore_float(bench, recipe, Budget(max_loss=0.05)) is None
    assert words[-1] == "int8 dynamic MatMul misses the budget even with half of its 3 operators in float"
    monkeypatch.setattr(searching, "MAX_RANKED", 2)
    assert restore_float(bench, recipe, Budget(max_loss=0.05)) is None
    assert words[-1] == "int8 dynamic MatMul is fast, but misses the budget; its 3 operators are too many to measure each of them"
