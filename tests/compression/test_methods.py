"""The contract of compression methods: a plain network results that is still accurate, the input is not changed, and a fit can resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file
from torch import nn

from tasks import store
from tasks.compression.clustering import Clustering
from tasks.compression.fake_quantization import fake_quantize_weight
from tasks.compression.low_rank import Factorisation
from tasks.compression.masks import conv_and_linear_layers
from tasks.compression.method import Method
from tasks.compression.methods import METHODS
from tasks.compression.qat import QuantizationAwareness
from tasks.compression.quantize import quantize
from tasks.compression.recipes import MATMULS, Recipe
from tasks.compression.sparsity import Sparsification
from tasks.contract.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.contract.errors import SettingError
from tasks.exporting.export import export
from tasks.serving.bundle import open_bundle
from tasks.serving.graph_files import read_graph, stored_graph
from tasks.settings import Fit
from tasks.shrink import shrink
from tasks.train import fit_network
from tasks.training import launch
from tasks.training.checkpoints import load_network
from tests.tiers import matrix
from tests.toy import ToyUseCase

QUICK: dict[str, Any] = {"epochs": 6, "batch_size": 32, "learning_rate": 0.01}
VARIANTS: dict[str, Method] = {"2:4": Sparsification(shares=(0.5,), pattern="2:4"), "4 bits": QuantizationAwareness(bits=4)}
EACH: dict[str, Method] = {name: method() for name, method in METHODS.items()} | VARIANTS
each_method = pytest.mark.parametrize("method", EACH.values(), ids=EACH)


def middle(method: Method) -> float:
    return method.levels[len(method.levels) // 2]


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
def test_a_compressed_network_is_a_plain_one_and_still_accurate(method: Method, trained: tuple[Dataset, Checkpoint]) -> None:
    dataset, checkpoint = trained
    before = store.content_digest(checkpoint.folder)
    assert method.gain and method.__doc__ and method.is_applicable(checkpoint, dataset)
    made = shrink.fn("compress", method, middle(method), checkpoint, checkpoint, dataset, Fit(**QUICK))
    assert store.content_digest(checkpoint.folder) == before
    assert made.usecase == checkpoint.usecase and checkpoint.digest in made.made_from
    plain, compressed = weights(checkpoint.folder), weights(made.folder)
    assert plain.keys() == compressed.keys(), "the result is a plain network"
    assert sum(array.size for array in compressed.values()) <= sum(array.size for array in plain.values())
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
        launch.fit(checkpoint.usecase, dataset.folder, fit, tmp_path, technique=method.technique(checkpoint, checkpoint, middle(method)))
        digests.append(store.file_digest(tmp_path / "weights.safetensors"))
        (tmp_path / "weights.safetensors").unlink()
        if attempt == "whole":
            max((tmp_path / ".work" / "checkpoints").glob("step-*.pt")).unlink()  # as if it had been killed in the last epoch
    launch.fit(
        checkpoint.usecase, dataset.folder, fit, tmp_path / "again", technique=method.technique(checkpoint, checkpoint, middle(method))
    )
    digests.append(store.file_digest(tmp_path / "again" / "weights.safetensors"))
    assert len(set(digests)) == 1


@pytest.mark.parametrize("changes", matrix([{"scope": "layer"}, {"ema": 0.9}, {"devices": 2, "ema": 0.9, "precision": "bf16"}]), ids=str)
def test_the_share_of_zeros_is_that_of_the_settings(changes: dict[str, Any], trained: tuple[Dataset, Checkpoint]) -> None:
    dataset, checkpoint = trained
    scope = "layer" if "scope" in changes else "network"
    fit = {name: value for name, value in changes.items() if name != "scope"}
    sparse = shrunk("sparsify", Sparsification(scope=scope), 0.625, (dataset, checkpoint), **fit)
    zeros = {name: (array == 0) for name, array in weights(sparse.folder).items() if array.ndim > 1}
    assert sum(zero.sum() for zero in zeros.values()) == round(0.625 * sum(zero.size for zero in zeros.values()))
    if "scope" in changes:
        assert all(zero.sum() == round(0.625 * zero.size) for zero in zeros.values())


def test_two_of_four_are_zero_where_the_inputs_come_in_fours(trained: tuple[Dataset, Checkpoint]) -> None:
    sparse = shrunk("sparsify", VARIANTS["2:4"], 0.5, trained, ema=0.9, patience=2)
    made = weights(sparse.folder)
    assert ((made["head.weight"].reshape(2, 16, 4) == 0).sum(-1) == 2).all()
    assert not (made["backbone.0.weight"] == 0).any(), "it has two inputs"


def test_quantisation_aware_training_reduces_the_loss_of_rounding(trained: tuple[Dataset, Checkpoint]) -> None:
    """With three values for a weight, rounding without training makes the network useless."""
    _, checkpoint = trained
    learnt = shrunk("quantize_aware", QuantizationAwareness(bits=2), 2, trained, epochs=10)
    whole, rounded, aware = (load_network(one) for one in (checkpoint, checkpoint, learnt))
    with torch.no_grad():
        for layer in conv_and_linear_layers(rounded):
            layer.weight.copy_(fake_quantize_weight(layer.weight, 2))
        assert all(torch.equal(layer.weight, fake_quantize_weight(layer.weight, 2)) for layer in conv_and_linear_layers(aware))
    lost, still_lost = accuracy(whole) - accuracy(rounded), accuracy(whole) - accuracy(aware)
    assert lost > 0.02 and still_lost < lost / 2, (lost, still_lost)


def accuracy(network: nn.Module) -> float:
    """Accuracy on more points than the test split has, so that it is not a matter of chance."""
    points = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return float((network(points).argmax(1) == (points.square().sum(1) > 1.4)).float().mean())


def test_a_factorised_checkpoint_is_exported_smaller_and_in_int8_smaller_still(trained: tuple[Dataset, Checkpoint], tmp_path: Path) -> None:
    dataset, whole = trained
    made = shrunk("factorise", Factorisation(), 0.5, trained, ema=0.8)
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


def test_clustered_weights_are_compressed_also_in_int8(trained: tuple[Dataset, Checkpoint], tmp_path: Path) -> None:
    dataset, whole = trained
    made = shrunk("cluster", Clustering(), 4, trained, ema=0.8)
    assert len(np.unique(weights(made.folder)["backbone.4.weight"])) <= 16
    models = [store.make(OnnxModel, {"of": each.digest}, lambda work, each=each: export(each, dataset, work))[0] for each in (whole, made)]
    clustered = onnx.load_from_string(read_graph(stored_graph(models[1].folder)))
    places = next(tensor for tensor in clustered.graph.initializer if tensor.name.endswith("backbone.4.weight.places"))
    assert (places.data_type, tuple(places.dims)) == (onnx.TensorProto.UINT8, (64, 64))
    assert models[1].megabytes < 0.6 * models[0].megabytes
    (tmp_path / "int8").mkdir()
    points: dict[str, Any] = {"point": np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)}
    expected = open_bundle(models[1].folder).predict(points)["probabilities"]
    for recipe in (Recipe(kind="dynamic", operators=MATMULS), Recipe(kind="static", operators=MATMULS)):
        quantize(models[1], dataset, recipe, [], tmp_path / "int8")
        assert any(t.data_type == onnx.TensorProto.INT8 and tuple(t.dims) == (64, 64) for t in stored(tmp_path / "int8")), "in int8"
        found = open_bundle(tmp_path / "int8").predict(points)["probabilities"]
        assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


def stored(folder: Path) -> list[onnx.TensorProto]:
    return list(onnx.load_from_string(read_graph(stored_graph(folder))).graph.initializer)


def shrunk(name: str, method: Method, level: float, trained: tuple[Dataset, Checkpoint], **changes: Any) -> Checkpoint:
    dataset, checkpoint = trained
    return shrink.fn(name, method, level, checkpoint, checkpoint, dataset, Fit(**QUICK | changes))


def test_settings_that_do_not_fit_are_refused(trained: tuple[Dataset, Checkpoint]) -> None:
    with pytest.raises(ValidationError, match=r"Set --compression.sparsify.shares 0\.5"):
        Sparsification(pattern="2:4")
    with pytest.raises(SettingError, match="early stopping could keep an epoch before"):
        shrunk("sparsify", Sparsification(), 0.8, trained, patience=2)
    with pytest.raises(SettingError, match="no linear layer before its head"):
        shrunk("factorise", Factorisation(), 0.99, trained)
    with pytest.raises(SettingError, match="no layer that a codebook of 256 values would make smaller"):
        shrunk("cluster", Clustering(), 8, (trained[0], small(trained[0])))


def small(dataset: Dataset) -> Checkpoint:
    return fit_network("train", ToyUseCase(hidden=8), dataset, Fit(epochs=1))
