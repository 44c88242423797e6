"""A graph that is mostly zeros is stored small, opened as it is, and published plain."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
import torch

from tasks.compression.masks import conv_and_linear_layers, mask_smallest
from tasks.compression.quantize import Recipe, quantize
from tasks.contract.artifacts import Dataset, OnnxModel
from tasks.contract.errors import BundleError
from tasks.exporting.bundle import pack, write_bundle
from tasks.exporting.export import write_graph
from tasks.serving.bundle import open_bundle
from tasks.serving.graph_files import GRAPH, PACKED, read_graph, stored_graph
from tasks.serving.models import Models
from tasks.serving.publishing import publish
from tasks.serving.settings import Serving
from tests.toy import ToyUseCase

USECASE = ToyUseCase(hidden=10_000)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain graph of a network with nine weights of ten at zero."""
    torch.manual_seed(0)
    network = USECASE.network(Path()).eval()
    with torch.no_grad():
        for layer in conv_and_linear_layers(network):
            layer.weight *= mask_smallest(layer.weight, 0.9)
    path = tmp_path_factory.mktemp("graph") / GRAPH
    write_graph(USECASE, network, {"point": np.zeros((2, 2), np.float32)}, path)
    return path


@pytest.fixture
def dataset(toy_data: Path) -> Dataset:
    (toy_data / "card.json").write_text(json.dumps({"layout": "made up", "labels": ["a", "b"]}))
    return Dataset(digest="0" * 64, usecase=USECASE, sizes={"train": 1}).at(toy_data)


@pytest.fixture
def folder(plain: Path, dataset: Dataset, tmp_path: Path) -> Path:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    shutil.copy(plain, bundle)
    fields = write_bundle(bundle, "sparse", USECASE, dataset.assets, dataset)
    assert fields["megabytes"] == stored_graph(bundle).stat().st_size / 1e6
    return bundle


def test_it_is_smaller_and_answers_the_same(folder: Path, plain: Path) -> None:
    assert not (folder / GRAPH).exists()
    assert (folder / PACKED).stat().st_size < plain.stat().st_size / 2
    assert read_graph(folder / PACKED) == read_graph(plain) == plain.read_bytes()
    bundle = open_bundle(folder)
    assert bundle.answer([bundle.example_request()])[0] == json.loads((folder / "example" / "answer.json").read_text())


def test_the_same_graph_is_packed_the_same_and_what_gains_little_is_not(plain: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(plain, tmp_path / name)
        pack(tmp_path / name)
    assert (tmp_path / "one" / PACKED).read_bytes() == (tmp_path / "two" / PACKED).read_bytes()
    for content in (np.random.default_rng(0).bytes(200_000), bytes(1000), bytes(1_000_000)):
        (tmp_path / GRAPH).write_bytes(content)
        pack(tmp_path)
        assert stored_graph(tmp_path).name == GRAPH, "dense, small, or what would not be opened again"


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_zeros_are_zero_in_int8_too(kind: Literal["static", "dynamic"], folder: Path, dataset: Dataset, tmp_path: Path) -> None:
    model = OnnxModel(digest="1" * 64, usecase=USECASE, label="sparse", megabytes=0).at(folder)
    (tmp_path / "int8").mkdir()
    fields = quantize(model, dataset, Recipe(kind=kind, operators=("MatMul", "Gemm")), [], tmp_path / "int8")
    assert fields["megabytes"] < stored_graph(folder).stat().st_size / 1e6
    weights = [weight for weight in initializers(tmp_path / "int8") if weight.dtype == np.int8 and weight.size >= 20_000]
    assert len(weights) == 2
    assert all((weight == 0).mean() >= 0.9 for weight in weights)


def initializers(bundle: Path) -> list[np.ndarray]:
    return [onnx.numpy_helper.to_array(one) for one in onnx.load_model_from_string(read_graph(stored_graph(bundle))).graph.initializer]


def packed(content: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content(path.read_bytes()))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (packed(lambda stored: stored[: len(stored) // 2]), "it is cut off after"),
        (packed(lambda stored: b"no gzip at all"), "it is damaged"),
        (packed(lambda stored: stored[:-8] + bytes(8)), "it is damaged"),
        (packed(lambda stored: gzip.compress(b"no graph at all")), "it is damaged or of another version"),
        (packed(lambda stored: gzip.compress(bytes(50_000_000))), "graphs of this project do not: not opened"),
    ],
)
def test_what_is_damaged_or_would_fill_the_memory_is_refused(damage: Callable[[Path], Any], words: str, folder: Path) -> None:
    damage(folder / PACKED)
    with pytest.raises(BundleError, match=words):
        open_bundle(folder)


def test_it_is_served_as_it_is_and_published_plain(folder: Path, plain: Path, tmp_path: Path) -> None:
    published = publish(folder, tmp_path / "models", "bundle")
    assert (published / GRAPH).read_bytes() == plain.read_bytes()
    assert not (published / PACKED).exists()
    assert publish(folder, tmp_path / "models", "bundle") == published, "what is the newest is not doubled"
    assert sorted(path.name for path in published.parent.iterdir()) == [".lock", "1", "config.pbtxt"], "no draft is left"
    assert np.array_equal(asyncio.run(served(folder)), asyncio.run(served(tmp_path / "models")))


async def served(repository: Path) -> np.ndarray:
    models = Models(repository, Serving(cache_megabytes=0))
    assert await models.load_all() == {}
    answer = await models.infer(models.route("bundle"), {"point": np.array([[0.3, -0.2]], dtype=np.float32)})
    await models.close()
    return answer["probabilities"]
