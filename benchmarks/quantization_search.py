"""The incremental search for a quantisation recipe compared with the whole grid: seconds, recipes tried, and the best latency.

    python -m benchmarks.quantization_search
    python -m benchmarks.quantization_search --bundle DIGEST    # a full-precision bundle in the store, with its data

By default, a small CNN is trained on the embedded digits for a few epochs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from tasks import store
from tasks.compression.search import Search, search
from tasks.contract.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.exporting.export import export
from tasks.settings import Budget, Fit
from tasks.training import launch
from usecases.image_classification import ImageClassification

FIT = Fit(epochs=5, accelerator="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of both in turns; medians are reported")
    parser.add_argument("--max-loss", type=float, default=Budget().max_loss)
    arguments = parser.parse_args()
    budget = Budget(max_loss=arguments.max_loss)
    with tempfile.TemporaryDirectory() as scratch:
        model, dataset = from_store(arguments.bundle) if arguments.bundle else on_digits(Path(scratch))
        search(model, dataset, Budget(max_loss=1))  # imports and warm-up
        seconds, found = {"grown": [], "grid": []}, {}
        for _ in range(arguments.rounds):
            for name in seconds:
                started = time.perf_counter()
                found[name] = search(model, dataset, budget, exhaustive=name == "grid")
                seconds[name].append(time.perf_counter() - started)
        for name, times in seconds.items():
            print(f"{name}: {description(found[name], statistics.median(times))}", flush=True)


def description(found: Search, seconds: float) -> str:
    best = found.tried[0]
    figures = ", ".join(f"{name} {value}" for name, value in best.items() if name != "label")
    return f"{seconds:.1f} s, {len(found.tried)} tried, {len(found.skipped)} skipped; first: {best['label']} ({figures})"


def from_store(digest: str) -> tuple[OnnxModel, Dataset]:
    model = OnnxModel.model_validate(store.manifest(digest)["record"])
    return model, Dataset.model_validate(store.manifest(model.made_from[1])["record"])


def on_digits(scratch: Path) -> tuple[OnnxModel, Dataset]:
    """A small CNN, trained in a temporary folder."""
    usecase = ImageClassification(data="sample")
    data, fitted, bundle = (scratch / name for name in ("data", "fitted", "bundle"))
    for folder in (data, fitted, bundle):
        folder.mkdir()
    card = usecase.prepare(data)
    (data / "card.json").write_text(json.dumps(card))
    dataset = Dataset(digest="data", usecase=usecase, sizes=card["sizes"]).at(data)
    outcome = launch.fit(usecase, data, FIT, fitted)
    fields = outcome.model_dump(include={"scores", "seconds", "epochs", "precision", "precision_gap", "examples_per_second"})
    checkpoint = Checkpoint(digest="fitted", usecase=usecase, **fields).at(fitted)
    return OnnxModel(digest="bundle", **export(checkpoint, dataset, bundle)).at(bundle), dataset


if __name__ == "__main__":
    main()
