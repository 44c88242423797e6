"""Writes bundles: a graph with its settings, assets, an example with its answer, and a model card."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from tasks.contract.artifacts import Dataset
from tasks.contract.records import write_typed
from tasks.contract.usecase import UseCase
from tasks.serving.bundle import open_bundle
from tasks.serving.graph_files import GRAPH, MAX_COMPRESSION_RATIO, PACKED, stored_graph

WORTH_PACKING = 2 / 3  # share of the plain size below which a compressed graph is kept
LEVEL = 6  # 9 takes ten times as long to save another 3 %
SMALL = 20_000  # bytes below which a graph is not compressed


def write_bundle(folder: Path, label: str, usecase: UseCase, assets: Path, dataset: Dataset) -> dict[str, Any]:
    """Complete a folder with `model.onnx` to a bundle.

    The graph is compressed if that makes it much smaller. The bundle answers its own example, so that it can be checked later that its
    answers are still the same.

    Args:
        folder: has `model.onnx`.
        label: name of the candidate in reports, such as "fp32".
        usecase: the use case with its settings.
        assets: folder of the assets of the network.
        dataset: the prepared data, for the example and the model card.

    Returns:
        The fields of its `OnnxModel`.
    """
    pack(folder)
    (folder / "usecase.json").write_text(json.dumps(write_typed(usecase), indent=1, ensure_ascii=False), encoding="utf-8")
    shutil.copytree(assets, folder / "assets", dirs_exist_ok=True)
    example = usecase.example_request(dataset.folder)
    (folder / "example").mkdir(exist_ok=True)
    shutil.copyfile(example, folder / "example" / f"request{example.suffix}")
    bundle = open_bundle(folder)
    answer = bundle.answer([bundle.example_request()])[0]
    (folder / "example" / "answer.json").write_text(json.dumps(answer, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / "README.md").write_text(_card(label, usecase, dataset, example.suffix), encoding="utf-8")
    return {"usecase": usecase, "label": label, "megabytes": stored_graph(folder).stat().st_size / 1e6}


def pack(folder: Path) -> None:
    """Compress `model.onnx` to `model.onnx.gz` if that is much smaller, as it is after unstructured pruning or weight clustering."""
    (folder / PACKED).unlink(missing_ok=True)  # of an attempt that was killed
    plain = (folder / GRAPH).read_bytes()
    if len(plain) < SMALL:
        return
    packed = gzip.compress(plain, compresslevel=LEVEL, mtime=0)  # without the time, so that the same graph gives the same file
    if len(plain) / MAX_COMPRESSION_RATIO < len(packed) < WORTH_PACKING * len(plain):
        (folder / PACKED).write_bytes(packed)
        (folder / GRAPH).unlink()


def _card(label: str, usecase: UseCase, dataset: Dataset, suffix: str) -> str:
    labels = dataset.card.get("labels", [])
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    sizes = ", ".join(f"{count:,} {split}" for split, count in dataset.sizes.items())
    return f"""# {usecase.name.replace("_", " ").capitalize()}, {label}

{(usecase.__doc__ or "").strip().splitlines()[0]}

- Trained on: {dataset.card.get("layout", "")} ({sizes}); data digest `{dataset.digest}`
- Answers: {shown or "see `usecase.json`"}
- Input: {", ".join(usecase.input_names)}; output: {", ".join(usecase.output_names)}

    python -m tasks.serving predict . example/request{suffix}

`example/answer.json` is the expected answer.
"""
