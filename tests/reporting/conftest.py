"""A run as it could have been, with the traps that real data sets: markup in labels, file names and reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.contract.artifacts import Evaluation, Latency, OnnxModel, Rejection
from tasks.reporting.facts import Facts, Stage, Step
from usecases.image_classification import ImageClassification

TRAP = "<script>alert(1)</script>"
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


def evaluated(label: str, accuracy: float, p50: float, megabytes: float) -> Evaluation:
    digest = f"{abs(hash(label)):064x}"
    model = OnnxModel(digest=digest, usecase=ImageClassification(), label=label, megabytes=megabytes).at(Path("/store", label))
    return Evaluation(
        model=model,
        validation={"accuracy": accuracy + 0.01},
        scores={"accuracy": accuracy, "ece": 0.02},
        latency_ms=Latency(p50=p50, p95=1.5 * p50),
        throughput=1000 / p50,
        megabytes=megabytes,
        memory_megabytes=10 + 3 * megabytes,
        load_seconds=0.05,
        cpu="A CPU (avx512_vnni)",
        threads=2,
    )


def manifest(kind: str, digest: str, *made_from: str) -> dict[str, Any]:
    facts = {
        "step": "export",
        "settings": {},
        "libraries": {"torch": "2.13.0"},
        "host": "here",
        "python": "3.11",
        "seconds": 1.0,
        "files": {},
    }
    return {"kind": kind, "digest": digest, "made_from": list(made_from), "made": "2026-11-24T12:00:00+00:00", **facts}


def blocks(labels: list[str]) -> list[dict[str, Any]]:
    size = len(labels)
    counts = [[30 if i == j else (i * j) % 3 for j in range(size)] for i in range(size)]
    return [
        {"kind": "matrix", "title": "Confusion", "labels": labels, "values": counts, "diagonal": True},
        {"kind": "table", "title": "Classes", "columns": ["Class", "F1"], "rows": [[label, 0.5] for label in labels]},
        {"kind": "bars", "title": "Counts", "items": [{"label": label, "value": i} for i, label in enumerate(labels)]},
        {"kind": "lines", "title": "Curve", "series": [{"name": TRAP, "x": [0, 1, 2], "y": [0.1, None, float("nan")]}]},
        {"kind": "scatter", "title": "Points", "points": [{"label": TRAP, "x": 1.0, "y": 2.0}]},
        {"kind": "gallery", "title": "Samples", "items": [{"image": PIXEL, "alt": TRAP, "lines": [TRAP, "99 %"]}]},
    ]


@pytest.fixture
def facts() -> Facts:
    return facts_with([TRAP, "cat", "dog"])


def facts_with(labels: list[str]) -> Facts:
    losses = [
        {"epoch": e, "train_loss": 2 / e, "validation_loss": 2.1 / e, "accuracy": 1 - 0.5 / e, "learning_rate": 1e-3} for e in (1, 2, 3)
    ]
    return Facts(
        flow="image_classification",
        settings={"usecase": ImageClassification().model_dump(), "budget": {"max_loss": 0.005}},
        card={
            "layout": "class folders",
            "sizes": {"train": 100, "validation": 10, "test": 20},
            "labels": labels,
            "counts": {"train": {label: 10 + i for i, label in enumerate(labels)}},
            "findings": [{"kind": "unreadable", "count": 1, "examples": [f"{TRAP}|.png"], "action": "set aside"}],
        },
        chosen=evaluated("int8 static", 0.95, 0.2, 0.3),
        reason="The fastest within the budget.",
        rejected=(
            Rejection(evaluation=evaluated("fp32", 0.952, 0.4, 1.2), reason="Twice as slow."),
            Rejection(evaluation=evaluated("int8 dynamic", 0.9, 0.3, 0.35), reason=f"Loses 0.052, allowed are 0.005 {TRAP}."),
        ),
        seconds=61,
        steps=(
            Step(name="prepare", seconds=0.1, cached=True),
            Step(name="train", seconds=40, needs=("prepare",)),
            Step(name="export", seconds=2, needs=("prepare", "train")),
            Step(name="release", seconds=1, needs=("prepare", "export")),
        ),
        stages=(Stage(name="train", monitor="accuracy", history=tuple(losses), seconds=40, scores={"accuracy": 0.83}),),
        recipes=({"recipe": "int8 static", "accuracy": 0.95}, {"recipe": "int8 dynamic", "accuracy": 0.9, "note": TRAP}),
        figures={"title": "Right and wrong", "blocks": blocks(labels)},
        lineage=(manifest("onnxmodel", "a" * 64, "b" * 64), manifest("dataset", "b" * 64)),
        next_commands=("serve /store/int8", f"echo '{TRAP}'"),
    )
