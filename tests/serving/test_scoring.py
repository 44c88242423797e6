"""Many requests without a server: all are answered, in order, and a bad one costs nothing but its own line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.contract.artifacts import Evaluation, Latency, OnnxModel, Release
from tasks.contract.errors import BundleError, DataError
from tasks.score import score as score_task
from tasks.serving import open_bundle, open_bundle_async
from tasks.serving.refusals import NotReady
from tasks.serving.scoring import find_requests, score
from tasks.serving.settings import Serving
from tests.toy import ToyUseCase

ROOT = Path(__file__).parents[2]
POINTS = np.random.default_rng(0).normal(size=(50, 2)).round(3).tolist()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_lines_are_answered_in_order_whatever_the_batch(batch: int, made: list[Path], tmp_path: Path) -> None:
    (tmp_path / "points.jsonl").write_text("\n".join(json.dumps(point) for point in POINTS))
    bundle, seen = open_bundle(made[0]), []
    scored = score(bundle, find_requests(tmp_path / "points.jsonl", bundle), tmp_path / "out" / "answers.jsonl", batch, seen.append)
    told = lines(tmp_path / "out" / "answers.jsonl")
    assert (scored.answered, scored.refused) == (50, 0) and sum(seen) == 50
    assert [line["request"] for line in told] == [f"points.jsonl line {number}" for number in range(1, 51)]
    for line, expected in zip(told, bundle.answer(POINTS), strict=True):
        assert line["label"] == expected["label"] and line["probability"] == pytest.approx(expected["probability"], abs=1e-6)


def test_a_bad_request_costs_its_own_line_alone(made: list[Path], tmp_path: Path) -> None:
    (tmp_path / "points.jsonl").write_text("[0.1, 0.2]\n{\n[1, 2, 3]\n\n[0.3, 0.4]\n")
    bundle = open_bundle(made[0])
    scored = score(bundle, find_requests(tmp_path / "points.jsonl", bundle), tmp_path / "answers.jsonl", 8)
    told = lines(tmp_path / "answers.jsonl")
    assert (scored.answered, scored.refused) == (2, 2) and "is not valid JSON" in told[1]["error"] and "two numbers" in told[2]["error"]
    assert told[0]["label"] in "ab" and told[3]["label"] in "ab"
    assert str(scored).startswith("2 of 4 answered, 2 failed")


def test_the_command_scores_a_folder(made: list[Path], tmp_path: Path) -> None:
    for number, point in enumerate(POINTS[:5]):
        (tmp_path / "points" / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "points" / f"{number % 2}" / f"{number}.json").write_text(json.dumps(point))
    command = [sys.executable, "-m", "tasks.serving", "score", str(made[0]), str(tmp_path / "points"), str(tmp_path / "answers.jsonl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "5 of 5 answered" in done.stdout, done.stderr
    assert [line["request"] for line in lines(tmp_path / "answers.jsonl")] == ["0/0.json", "0/2.json", "0/4.json", "1/1.json", "1/3.json"]
    gone = subprocess.run([*command[:5], "/nowhere", "x"], cwd=ROOT, capture_output=True, text=True)
    assert gone.returncode == 2 and "/nowhere does not exist" in gone.stderr


def test_the_task_scores_what_was_released(made: list[Path], tmp_path: Path) -> None:
    model = OnnxModel(digest="0" * 64, usecase=ToyUseCase(), label="fp32", megabytes=0.1).at(made[0])
    evaluation = Evaluation(
        model=model,
        validation={},
        scores={},
        latency_ms=Latency(p50=1, p95=1),
        throughput=1,
        megabytes=1,
        memory_megabytes=1,
        load_seconds=1,
        cpu="",
        threads=1,
    )
    released = Release(chosen=evaluation, reason="", rejected=(), report="", answer={}, seconds=1)
    (tmp_path / "points.jsonl").write_text("[0.1, 0.2]\n[0.3, 0.4]\n")
    assert score_task.fn(released, tmp_path / "points.jsonl", tmp_path / "answers.jsonl").answered == 2
    (tmp_path / "points.jsonl").write_text("\n")
    with pytest.raises(DataError, match="There is no request in"):
        score_task.fn(released, tmp_path / "points.jsonl", tmp_path / "answers.jsonl")


def test_many_coroutines_ask_one_bundle(made: list[Path]) -> None:
    async def ask() -> None:
        async with open_bundle_async(made[0], Serving(cache_megabytes=0, max_batch=8)) as bundle:
            alone = open_bundle(made[0]).answer(POINTS)
            assert await asyncio.gather(*map(bundle.answer, POINTS)) == alone
            rows = await asyncio.gather(*(bundle.predict({"point": np.array([point], np.float32)}) for point in POINTS))
            assert [row["probabilities"].shape for row in rows] == [(1, 2)] * len(POINTS)
            assert max(bundle.version.statistics.batches) > 1, "queued requests share a batch"
            with pytest.raises(BundleError, match="missing"):
                await bundle.predict({})
        with pytest.raises(NotReady):
            await bundle.answer(POINTS[0])

    asyncio.run(ask())
    with pytest.raises(BundleError, match="no bundle at"):
        asyncio.run(open_bundle_async(made[0] / "nothing").__aenter__())
