"""Contract of every way to compress a bundle: same kind back, smaller, still right, the input untouched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks import store
from tasks.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.compression.quantize import Recipe, quantize, recipes, search
from tasks.exporting.export import export
from tasks.serving.bundle import open_bundle
from tasks.settings import Fit
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
    Recipe(kind="dynamic", operators=("MatMul", "Gemm")),
    Recipe(kind="static", operators=("MatMul", "Gemm")),
    Recipe(kind="static", calibration="percentile"),
    Recipe(kind="static", calibration="entropy", signed=True),
    Recipe(kind="static", reduce_range=True),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.label)
def test_a_recipe_gives_a_bundle_that_is_still_right(recipe: Recipe, bundle: tuple[OnnxModel, Dataset], tmp_path: Path) -> None:
    model, dataset = bundle
    before = store.content_digest(model.folder)
    fields = quantize(model, dataset, recipe, [], tmp_path)
    assert store.content_digest(model.folder) == before
    assert fields["label"] == recipe.label
    assert fields["made_from"] == (model.digest, dataset.digest)
    full, small = open_bundle(model.folder), open_bundle(tmp_path)
    points = {"point": np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)}
    agreed = full.predict(points)["probabilities"].argmax(1) == small.predict(points)["probabilities"].argmax(1)
    assert agreed.mean() > 0.9
    assert small.answer([[3.0, 3.0]])[0]["label"] == "b"


def test_the_same_recipe_gives_the_same_digest(bundle: tuple[OnnxModel, Dataset], tmp_path: Path) -> None:
    model, dataset = bundle
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        quantize(model, dataset, RECIPES[2], [], tmp_path / name)
    assert store.content_digest(tmp_path / "one") == store.content_digest(tmp_path / "two")


def test_the_search_tries_what_fits_the_graph_and_ranks_by_measurement(bundle: tuple[OnnxModel, Dataset]) -> None:
    model, dataset = bundle
    offered = recipes(model)
    assert offered
    assert not any("Conv" in recipe.operators for recipe in offered), "there is no convolution"
    found = search(model, dataset, max_loss=0.05)
    assert len(found.tried) == len(offered)
    assert {"label", "accuracy", "p50 ms", "MB"} <= set(found.tried[0])
    assert set(found.recipes) <= set(offered)
