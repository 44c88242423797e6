"""Contract of every way to compress a network while it learns on: same kind back, still right, the input untouched, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from tasks import store
from tasks.compression.low_rank import LowRank
from tasks.compression.masks import weighty_layers
from tasks.compression.qat import QuantizationAware
from tasks.compression.quantize import quantize
from tasks.compression.recipes import MATMULS, Recipe
from tasks.compression.rounding import round_weight
from tasks.compression.sparsity import Sparsity
from tasks.contract.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.contract.errors import SettingError
from tasks.exporting.export import export
from tasks.factorise import factorise
from tasks.quantize_aware import quantize_aware
from tasks.serving.bundle import open_bundle
from tasks.serving.graph_files import read_graph, stored_graph
from tasks.settings import Factorisation, Fit, QuantizationAwareness, Sparsification
from tasks.sparsify import sparsify
from tasks.train import fit_network
from tasks.training import launch
from tasks.training.checkpoints import load_network
from tasks.training.technique import Technique
from tests.tiers import matrix
from tests.toy import ToyUseCase

QUICK: dict[str, Any] = {"epochs": 6, "batch_size": 32, "learning_rate": 0.01}
Method = Callable[[Checkpoint], Technique]
METHODS: dict[str, Method] = {
    "magnitude": lambda trained: Sparsity(trained=trained, share=0.5),
    "int8": lambda trained: QuantizationAware(trained=trained),
    "4 bits": lambda trained: QuantizationAware(trained=trained, bits=4),
    "2:4": lambda trained: Sparsity(trained=trained, share=0.5, pattern="2:4"),
    "low rank": lambda trained: LowRank(trained=trained, share=0.5),
}
each_method = pytest.mark.parametrize("method", matrix(METHODS, keep=2))


@pytest.fixture(scope="module")
def trained() -> tuple[Dataset, Checkpoint]:
    usecase = ToyUseCase(hidden=64, depth=2)

    def build(folder: Path) -> dict[str, object]:
        card = usecase.prepare(folder)
        (folder / "card.json").write_text(json.dumps(card))
        return {"usecase": usecase, "sizes": card["sizes"]}

    dataset, _ = store.make(Dataset, {"for": "methods"}, build)
    return dataset, fit_network("train", usecase, dataset, Fit(epochs=8, batch_size=32, learning_rate=0.02))


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "weights.safetensors")


@each_method
def test_the_same_kind_comes_back_and_is_still_right(method: Method, trained: tuple[Dataset, Checkpoint]) -> None:
    dataset, checkpoint = trained
    before = store.content_digest(checkpoint.folder)
    made = fit_network("compress", checkpoint.usecase, dataset, Fit(**QUICK), technique=method(checkpoint))
    assert store.content_digest(checkpoint.folder) == before
    assert made.usecase == checkpoint.usecase and checkpoint.digest in made.made_from
    plain, compressed = weights(checkpoint.folder), weights(made.folder)
    assert {name: array.shape for name, array in plain.items()} == {name: array.shape for name, array in compressed.items()}
    model, _ = store.make(OnnxModel, {"of": made.digest}, lambda work: export(made, dataset, work))
    bundle = open_bundle(model.folder)
    assert made.usecase.score(bundle.predict, dataset.folder, "test")["accuracy"] > 0.85
    assert bundle.answer([[3.0, 3.0]])[0]["label"] == "b"


@each_method
def test_the_same_seed_gives_the_same_weights_also_when_resumed(
    method: Method, trained: tuple[Dataset, Checkpoint], tmp_path: Path
) -> None:
    dataset, checkpoint = trained
    fit = Fit(**QUICK, ema=0.8)
    digests = []
    for attempt in ("whole", "resumed"):
        launch.fit(checkpoint.usecase, dataset.folder, fit, tmp_path, technique=method(checkpoint))
        digests.append(store.file_digest(tmp_path / "weights.safetensors"))
        (tmp_path / "weights.safetensors").unlink()
        if attempt == "whole":
            max((tmp_path / ".work" / "checkpoints").glob("step-*.pt")).unlink()  # as if it had been killed in the last epoch
    launch.fit(checkpoint.usecase, dataset.folder, fit, tmp_path / "again", technique=method(checkpoint))
    digests.append(store.file_digest(tmp_path / "again" / "weights.safetensors"))
    assert len(set(digests)) == 1


@pytest.mark.parametrize("changes", matrix([{"scope": "layer"}, {"ema": 0.9}, {"devices": 2, "ema": 0.9, "precision": "bf16"}]), ids=str)
def test_as_many_weights_are_zero_as_was_asked_for(changes: dict[str, Any], trained: tuple[Dataset, Checkpoint]) -> None:
    dataset, checkpoint = trained
    sparse = sparsify.fn(checkpoint, dataset, Sparsification.model_validate(QUICK | {"share": 0.625} | changes))
    assert sparse is not None
    zeros = {name: (array == 0) for name, array in weights(sparse.folder).items() if array.ndim > 1}
    assert sum(zero.sum() for zero in zeros.values()) == round(0.625 * sum(zero.size for zero in zeros.values()))
    if "scope" in changes:
        assert all(zero.sum() == round(0.625 * zero.size) for zero in zeros.values())


def test_two_of_four_are_zero_where_the_inputs_come_in_fours(trained: tuple[Dataset, Checkpoint]) -> None:
    dataset, checkpoint = trained
    fit = Sparsification(**QUICK, ema=0.9, patience=2, share=0.5, pattern="2:4")
    sparse = sparsify.fn(checkpoint, dataset, fit)
    assert sparse is not None
    made = weights(sparse.folder)
    assert ((made["head.weight"].reshape(2, 16, 4) == 0).sum(-1) == 2).all()
    assert not (made["backbone.0.weight"] == 0).any(), "it has two inputs"


def test_what_has_learnt_with_rounding_loses_less_by_it(trained: tuple[Dataset, Checkpoint]) -> None:
    """Three values for a weight are so few that rounding alone spoils the network."""
    dataset, checkpoint = trained
    learnt = quantize_aware.fn(checkpoint, dataset, QuantizationAwareness.model_validate(QUICK | {"epochs": 10, "bits": 2}))
    assert learnt is not None
    whole, rounded, aware = (load_network(one) for one in (checkpoint, checkpoint, learnt))
    with torch.no_grad():
        for layer in weighty_layers(rounded):
            layer.weight.copy_(round_weight(layer.weight, 2))
        assert all(torch.equal(layer.weight, round_weight(layer.weight, 2)) for layer in weighty_layers(aware))
    lost, still_lost = accuracy(whole) - accuracy(rounded), accuracy(whole) - accuracy(aware)
    assert lost > 0.02 and still_lost < lost / 2, (lost, still_lost)


def accuracy(network: nn.Module) -> float:
    """On more points than the test split has: how far a network is spoilt is no matter of luck."""
    points = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return float((network(points).argmax(1) == (points.square().sum(1) > 1.4)).float().mean())


def test_a_factorised_checkpoint_is_exported_smaller_and_in_int8_smaller_still(trained: tuple[Dataset, Checkpoint], tmp_path: Path) -> None:
    dataset, whole = trained
    made = factorise.fn(whole, dataset, Factorisation.model_validate(QUICK | {"share": 0.5, "ema": 0.8}))
    assert made is not None
    assert np.linalg.matrix_rank(weights(made.folder)["backbone.4.weight"]) == 16
    models = [store.make(OnnxModel, {"of": each.digest}, lambda work, each=each: export(each, dataset, work))[0] for each in (whole, made)]
    plain, thin = (onnx.load_from_string(read_graph(stored_graph(model.folder))) for model in models)
    assert count(plain) - count(thin) == 64 * 64 - 16 * (64 + 64)
    assert models[1].megabytes < 0.7 * models[0].megabytes
    (tmp_path / "int8").mkdir()
    points: dict[str, Any] = {"point": np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)}
    expected = open_bundle(models[1].folder).predict(points)["probabilities"]
    for recipe in (Recipe(kind="dynamic", operators=MATMULS), Recipe(kind="static", operators=MATMULS)):
        quantize(models[1], dataset, recipe, [], tmp_path / "int8")
        found = open_bundle(tmp_path / "int8").predict(points)["probabilities"]
        assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


def count(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if len(tensor.dims) == 2)


def test_what_has_no_sense_is_refused_and_nothing_is_done_where_nothing_is_asked_for(trained: tuple[Dataset, Checkpoint]) -> None:
    dataset, checkpoint = trained
    assert sparsify.fn(checkpoint, dataset, Sparsification()) is None
    assert quantize_aware.fn(checkpoint, dataset, QuantizationAwareness()) is None
    assert factorise.fn(checkpoint, dataset, Factorisation()) is None
    with pytest.raises(SettingError, match=r"Give 0\.5"):
        sparsify.fn(checkpoint, dataset, Sparsification(pattern="2:4", share=0.8))
    with pytest.raises(SettingError, match="the best epoch may come before"):
        sparsify.fn(checkpoint, dataset, Sparsification(share=0.8, patience=2))
    with pytest.raises(SettingError, match="no linear layer before its head"):
        factorise.fn(checkpoint, dataset, Factorisation.model_validate(QUICK | {"share": 0.99}))
