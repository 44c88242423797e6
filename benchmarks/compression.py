"""Quality, speed and size of compressed networks, compared with fp32 in ONNX Runtime and with eager PyTorch at batch size 1.

    python -m benchmarks.compression DIGEST [DIGEST ...] --epochs 8 --goal "at most 2 % worse, as fast as possible"
    python -m benchmarks.compression --grid         # the search compared with an exhaustive grid, on the embedded digits

DIGEST is a checkpoint in the store, which also has its data. Earlier results are taken from the store.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from functools import partial
from typing import Literal, get_origin

import torch
from prefect import flow

from tasks import store
from tasks.compress import Compression, compress
from tasks.compression.pruning import Pruning
from tasks.compression.search import search
from tasks.contract.artifacts import Checkpoint, Dataset, Evaluation, Latency, OnnxModel
from tasks.evaluate import evaluate
from tasks.evaluation.choose import choose
from tasks.evaluation.measure import THREADS, real_inputs, time_in_turns
from tasks.export import export
from tasks.prepare import prepare
from tasks.serving.bundle import open_bundle
from tasks.settings import Budget, Fit
from tasks.shrink import shrink
from tasks.train import fine_tune
from tasks.training.checkpoints import load_network
from tasks.training.predicting import torch_predict
from usecases.image_classification import ImageClassification


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("digests", nargs="*")
    parser.add_argument("--goal", default="at most 2 % worse, as fast as possible")
    parser.add_argument("--grid", action="store_true")
    for name, field in Compression.model_fields.items():
        kind = str if get_origin(field.annotation) is Literal else field.annotation
        if kind in (int, float, str):
            parser.add_argument(f"--{name}", type=kind, default=field.default)  # pyright: ignore[reportArgumentType]
    parser.add_argument("--methods", type=lambda text: tuple(text.split(",")), default=(), help="names separated by commas")
    shares = Pruning().shares
    parser.add_argument(
        "--shares", type=lambda text: tuple(map(float, text.split(","))), default=shares, help="shares to prune, separated by commas"
    )
    given = vars(parser.parse_args())
    given["prune"] = Pruning(shares=given.pop("shares"))
    digests, goal, grid = (given.pop(name) for name in ("digests", "goal", "grid"))
    if grid:
        against_grid(Compression(**given | {"epochs": given["epochs"] or 5, "batch_size": 64}), Budget(goal=goal))
    for digest in digests:
        measure(Checkpoint.model_validate(store.manifest(digest)["record"]), Compression(**given), Budget(goal=goal))


@flow(persist_result=False)
def measure(checkpoint: Checkpoint, compression: Compression, budget: Budget) -> None:
    dataset = Dataset.model_validate(store.manifest(checkpoint.made_from[0])["record"])
    full = export(checkpoint, dataset)
    found = evaluate([full, *compress(checkpoint, full, dataset, compression, budget)], dataset)
    chosen, reason, _ = choose(found, checkpoint.usecase.monitor, budget)
    int8 = max((e for e in found if e.label.startswith("int8")), key=lambda e: e.throughput, default=chosen)
    print_candidates(checkpoint, found, chosen, reason)
    eager, *others = compare_with_eager(checkpoint, dataset, [full, int8.model, chosen.model])
    print(f"eager PyTorch, batch 1, {THREADS} thread: {eager.p50:.3f} ms", flush=True)
    for name, latency in zip(("fp32", int8.label, f"chosen: {chosen.label}"), others, strict=True):
        print(
            f"  {eager.p50 / latency.p50:5.2f} x the speed of eager, {others[0].p50 / latency.p50:5.2f} x the speed of fp32: {name}",
            flush=True,
        )


def print_candidates(checkpoint: Checkpoint, found: Sequence[Evaluation], chosen: Evaluation, reason: str) -> None:
    full, monitor = found[0], checkpoint.usecase.monitor
    print(f"\n{checkpoint.digest[:16]} {checkpoint.usecase.name}, {monitor}", flush=True)
    for e in found:
        lost = 1 - e.validation[monitor] / full.validation[monitor]
        noise = f" ({e.gain.low:+.4f} to {e.gain.high:+.4f})" if e.gain else ""
        speed, size = full.latency_ms.p50 / e.latency_ms.p50, full.megabytes / e.megabytes
        print(
            f"{'*' if e is chosen else ' '} validation {e.validation[monitor]:.4f}{noise} lost {100 * lost:+.2f} %, "
            f"test {e.scores[monitor]:.4f}, {speed:.2f} x as fast "
            f"({e.latency_ms.p50:.3f} ms), {size:.1f} x smaller ({e.megabytes:.3f} MB): {e.label}",
            flush=True,
        )
    print(reason, flush=True)


def compare_with_eager(checkpoint: Checkpoint, dataset: Dataset, models: Sequence[OnnxModel]) -> list[Latency]:
    """Latencies of the network in eager PyTorch and of each model, measured in turns on one thread."""
    torch.set_num_threads(THREADS)
    eager, inputs = torch_predict(checkpoint.usecase, load_network(checkpoint)), real_inputs(models[0], dataset, 1)
    bundles = [open_bundle(model.folder, THREADS, spinning=True) for model in models]
    return time_in_turns([partial(eager, inputs), *(partial(bundle.predict, inputs) for bundle in bundles)])


# -- the search and the grid ------------------------------------------------------------------------------------------
@flow(persist_result=False)
def against_grid(compression: Compression, budget: Budget) -> None:
    """Compare the search with a grid of every share, with and without QAT, and every recipe.

    The grid trains with another seed, so that nothing is found in the store.
    """
    dataset = prepare(ImageClassification())
    checkpoint = fine_tune(None, dataset, Fit(epochs=20, batch_size=64))
    full = export(checkpoint, dataset)
    started = time.monotonic()
    grown = compress(checkpoint, full, dataset, compression, budget)
    seconds = time.monotonic() - started
    started = time.monotonic()
    every = exhaustive(checkpoint, full, dataset, compression.model_copy(update={"seed": 1}), budget)
    grid_seconds = time.monotonic() - started
    found = evaluate([full, *grown, *every], dataset)
    best, _, _ = choose(found[: len(grown) + 1], checkpoint.usecase.monitor, budget)
    grid_best, _, _ = choose([found[0], *found[len(grown) + 1 :]], checkpoint.usecase.monitor, budget)
    for name, one, took in (("search", best, seconds), ("grid", grid_best, grid_seconds)):
        print(f"{name}: {took:.0f} s, {one.latency_ms.p50:.4f} ms, {one.scores}: {one.label}", flush=True)
    print(f"search / grid: time {seconds / grid_seconds:.2f}, latency {best.latency_ms.p50 / grid_best.latency_ms.p50:.2f}")


def exhaustive(checkpoint: Checkpoint, full: OnnxModel, dataset: Dataset, compression: Compression, budget: Budget) -> list[OnnxModel]:
    from tasks.compression.quantize import quantize as write_quantized

    found: list[OnnxModel] = []
    fit, aware_method = compression.recovery(), compression.quantize_aware
    for share, aware in itertools.product((0.0, *compression.prune.shares), (False, True)):
        made = shrink("prune", compression.prune, share, checkpoint, checkpoint, dataset, fit) if share else checkpoint
        if aware:
            made = shrink("quantize_aware", aware_method, aware_method.bits, made, checkpoint, dataset, fit)
        label = f"grid {share:g}{' aware' if aware else ''}"
        model = full if made is checkpoint else export(made, dataset, label, "compressed")
        tried = search(model, dataset, budget, exhaustive=True)
        for recipe in tried.recipes:
            build = partial(write_quantized, model, dataset, recipe, tried.tried)
            quantised, _ = store.make(OnnxModel, {"grid": model.digest, "recipe": recipe.model_dump(mode="json")}, build)
            found.append(quantised)
    return found


if __name__ == "__main__":
    main()
