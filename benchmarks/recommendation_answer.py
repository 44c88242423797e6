"""Latency of a recommendation, from history to titles, in process on one core; and recall of the approximate index.

    python -m benchmarks.recommendation_answer --items 10000 1000000

The network has the shape of SASRec with random weights and clustered items, since the time depends on sizes only; history 50, width 64.
fp32, int8 and, from 100,000 items on, the approximate index are measured in turns on the same requests. recall@10 is the fraction of the
ten best items of the exact search that are found, over 640 requests.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tasks.compression.quantize import apply
from tasks.compression.recipes import MATMULS, Recipe
from tasks.contract.artifacts import Dataset, OnnxModel
from tasks.contract.capabilities import HasApproximation
from tasks.contract.records import write_typed
from tasks.contract.types import Arrays
from tasks.contract.usecase import UseCase
from tasks.evaluation.measure import time_in_turns
from tasks.exporting.export import write_graph
from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.graph_files import stored_graph
from usecases.recommendation import Recommendation
from usecases.recommendation.network import NextItem

CLUSTERS, LENGTH = 200, 50
DYNAMIC = Recipe(kind="dynamic", operators=(*MATMULS, "Gather"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000])
    for items in parser.parse_args().items:
        with tempfile.TemporaryDirectory() as scratch:
            measure(items, Path(scratch))


def measure(items: int, work: Path) -> None:
    assets = write_assets(items, work / "assets")
    usecase = Recommendation(length=LENGTH)
    torch.manual_seed(0)
    network = usecase.network(assets).eval()
    assert isinstance(network, NextItem)
    centres = torch.randn(CLUSTERS, usecase.width)
    with torch.no_grad():
        network.backbone.item.weight[1:] = centres[torch.randint(CLUSTERS, (items,))] + 0.5 * torch.randn(items, usecase.width)
    bundles = {"fp32": bundle(usecase, network, assets, work / "fp32")}
    near = usecase.approximation(assets)
    if near:
        bundles["near items"] = bundle(near, network, assets, work / "near")
    for name, full in list(bundles.items()):
        bundles[f"{name} int8"] = quantised(full, work / f"{name} int8")
    random = np.random.default_rng(0)
    request = {"history": [f"item-{i}" for i in random.integers(0, items, LENGTH)], "k": 10}
    latencies = time_in_turns([partial(opened.answer, [request]) for opened in bundles.values()])
    for (name, opened), latency in zip(bundles.items(), latencies, strict=True):
        found = f", recall@10 {recall(opened, bundles['fp32'], items):.3f}" if name != "fp32" else ""
        size = stored_graph(opened.folder).stat().st_size / 1e6
        print(f"{items:,} items, {name}: p50 {latency.p50:.2f} ms, p95 {latency.p95:.2f} ms, {size:.1f} MB{found}", flush=True)


def write_assets(items: int, folder: Path) -> Path:
    folder.mkdir()
    np.save(folder / "popularity.npy", np.random.default_rng(0).integers(0, 1000, items + 1))
    names = [f"item-{i}" for i in range(items)]
    card = {"items": names, "titles": names, "categories": [[] for _ in names], "filter_seen": True}
    (folder / "catalogue.json").write_text(json.dumps(card))
    return folder


def bundle(usecase: UseCase, network: torch.nn.Module, assets: Path, folder: Path) -> Bundle:
    folder.mkdir()
    items = len(json.loads((assets / "catalogue.json").read_text())["items"])
    sample = {"history": np.ones((2, LENGTH), np.int64), "allowed": np.ones((2, items), bool)}
    write_graph(usecase, network, sample, folder / "model.onnx")
    return opened(usecase, assets, folder)


def quantised(full: Bundle, folder: Path) -> Bundle:
    folder.mkdir()
    model = OnnxModel(digest="", usecase=full.usecase, label="", megabytes=0).at(full.folder)
    apply(DYNAMIC, model, Dataset(digest="", usecase=full.usecase, sizes={}), folder / "model.onnx")
    return opened(full.usecase, full.folder / "assets", folder)


def opened(usecase: UseCase, assets: Path, folder: Path) -> Bundle:
    (folder / "usecase.json").write_text(json.dumps(write_typed(usecase)))
    (folder / "assets").symlink_to(assets.resolve())
    return open_bundle(folder, spinning=True)


def recall(found: Bundle, exact: Bundle, items: int) -> float:
    shares = []
    for seed in range(20):
        history = np.random.default_rng(seed).integers(1, items + 1, (32, LENGTH))
        inputs: Arrays = {"history": history, "allowed": np.ones((32, items), bool)}
        assert isinstance(found.usecase, HasApproximation)
        shares += found.usecase.agreement(found.predict(inputs), exact.predict(inputs)).values()
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
