"""Fits in their real processes: what they learn, which files they write, and how they fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tasks.contract import errors
from tasks.settings import Fit
from tasks.store import file_digest
from tasks.training import launch
from tasks.training.batches import Batches
from tasks.training.lora import LoRA
from tasks.training.technique import Technique
from tests.tiers import matrix
from tests.toy import STEP_SECONDS, StepClock, ToyUseCase

QUICK = Fit(epochs=12, batch_size=32, learning_rate=0.02, weight_decay=0.0)


def fit(
    data: Path, work: Path, usecase: ToyUseCase | None = None, start: Path | None = None, technique: Technique | None = None, **changes: Any
) -> Any:
    rows: list[dict[str, Any]] = []
    outcome = launch.fit(usecase or ToyUseCase(), data, QUICK.model_copy(update=changes), work, start, rows.append, technique)
    return outcome, rows


def weights(work: Path) -> str:
    return file_digest(work / "weights.safetensors")


def test_a_fit_learns_reports_progress_and_writes_its_files(toy_data: Path, tmp_path: Path) -> None:
    outcome, rows = fit(toy_data, tmp_path)
    assert outcome.scores["accuracy"] > 0.85
    history = json.loads((tmp_path / "history.json").read_text())
    assert [row["epoch"] for row in history] == list(range(1, 13))
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert {"phase", "epoch", "epochs", "step", "steps"} <= set(rows[-1])
    assert (tmp_path / "assets" / "labels.json").exists()
    assert list((tmp_path / "logs").glob("events*")), "TensorBoard has something to show"


def test_the_same_seed_gives_the_same_weights(toy_data: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        fit(toy_data, tmp_path / name, epochs=3, ema=0.9, seed=seed)
    assert weights(tmp_path / "one") == weights(tmp_path / "same") != weights(tmp_path / "other")


@pytest.mark.parametrize(
    "changes",
    matrix(
        [
            {"schedule": "constant", "precision": "bf16", "accumulate": 2},
            {"batch_size": 0, "weight_decay": 0.1},
            {"optimizer": "sgd", "schedule": "cosine", "learning_rate": 0.1},
            {"precision": "fp32", "gradient_clip": 0.0, "ema": 0.9},
        ],
        keep=2,
    ),
    ids=lambda changes: " ".join(f"{name}={value}" for name, value in changes.items()),
)
def test_every_setting_of_the_fit_trains(toy_data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    outcome, _ = fit(toy_data, tmp_path, **changes)
    assert outcome.scores["accuracy"] > 0.7
    assert abs(outcome.precision_gap) < 0.1


def test_similar_lengths_share_a_batch() -> None:
    class Texts:
        lengths = np.random.default_rng(0).integers(1, 100, 1000)

        def __len__(self) -> int:
            return 1000

        def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
            return {"length": self.lengths[indices]}

    batches = Batches(Texts(), 32, epochs=2, seed=0)
    epochs = [np.array([batches.indices(epoch * 31 + step) for step in range(31)]) for epoch in range(2)]
    for seen in epochs:
        assert len(np.unique(seen)) == 31 * 32, "each at most once"
        assert np.ptp(Texts.lengths[seen], axis=1).max() < 15
    means = Texts.lengths[epochs[0]].mean(1)
    assert abs(np.corrcoef(means, np.arange(31))[0, 1]) < 0.5, "short and long batches come in any order"
    assert not np.array_equal(epochs[0], epochs[1])


def test_two_ranks_reach_what_one_reaches(toy_data: Path, tmp_path: Path) -> None:
    one, _ = fit(toy_data, tmp_path / "one")
    two, _ = fit(toy_data, tmp_path / "two", devices=2)
    assert two.ranks == 2
    assert abs(one.scores["accuracy"] - two.scores["accuracy"]) <= 0.08, "five of 64 examples"


def test_early_stopping_keeps_the_best(toy_data: Path, tmp_path: Path) -> None:
    outcome, _ = fit(toy_data, tmp_path, epochs=200, patience=3)
    history = json.loads((tmp_path / "history.json").read_text())
    assert outcome.epochs == len(history) < 200
    assert outcome.scores["accuracy"] == pytest.approx(max(row["accuracy"] for row in history), abs=0.04)


def test_a_time_budget_is_kept_and_the_schedule_ends_in_it(toy_data: Path, tmp_path: Path) -> None:
    outcome, rows = fit(toy_data, tmp_path, technique=StepClock(), epochs=10_000, max_minutes=0.05)
    history = json.loads((tmp_path / "history.json").read_text())
    assert outcome.seconds == 3 and history[-1]["step"] == 3 / STEP_SECONDS and rows[-1]["epoch"] == outcome.epochs == 48
    rates = [row["learning_rate"] for row in history]
    assert max(rates) == pytest.approx(0.02, rel=0.05) and rates[-1] < 0.002, "one cycle, in the time that there is"


def test_fine_tuning_starts_from_the_backbone_and_can_freeze_it(toy_data: Path, tmp_path: Path) -> None:
    fit(toy_data, tmp_path / "first")
    fit(toy_data, tmp_path / "tuned", start=tmp_path / "first", epochs=2, frozen_epochs=2)
    before, after = load_file(tmp_path / "first" / "weights.safetensors"), load_file(tmp_path / "tuned" / "weights.safetensors")
    assert (before["backbone.0.weight"] == after["backbone.0.weight"]).all()
    assert (before["head.weight"] != after["head.weight"]).any()


@pytest.mark.parametrize("changes", matrix([{"ema": 0.9}, {}, {"patience": 3}]), ids=str)
def test_lora_adapters_are_merged_into_the_weights(toy_data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    fit(toy_data, tmp_path / "first")
    fit(toy_data, tmp_path / "tuned", start=tmp_path / "first", technique=LoRA(rank=1), epochs=4, **changes)
    before, after = load_file(tmp_path / "first" / "weights.safetensors"), load_file(tmp_path / "tuned" / "weights.safetensors")
    assert before.keys() == after.keys()
    assert np.linalg.matrix_rank(after["backbone.0.weight"] - before["backbone.0.weight"], tol=1e-6) == 1
    assert (before["backbone.1.weight"] == after["backbone.1.weight"]).all()
    assert (before["head.weight"] != after["head.weight"]).any()


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("raise", errors.TrainingError, "Training failed on rank 0: ValueError: the loss went wrong"),
        ("nan", errors.TrainingError, "The loss became nan at step 1 (epoch 1). Try a smaller --fit.learning_rate"),
        ("memory", errors.OutOfMemory, "CUDA out of memory"),
        ("words", errors.DataError, "row 3 of points.csv has no label"),
    ],
)
def test_a_failure_is_raised_with_its_root_cause(toy_data: Path, tmp_path: Path, fault: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as raised:
        fit(toy_data, tmp_path, ToyUseCase(fault=fault))
    assert type(raised.value) is error
    assert words in str(raised.value)


def test_a_failure_can_be_repeated_by_hand(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.TrainingError, match=r"To repeat it: .* -m tasks.training.worker .*job.json"):
        fit(toy_data, tmp_path, ToyUseCase(fault="raise"))
    assert (tmp_path / ".work" / "job.json").exists()


def test_one_rank_of_two_that_fails_names_itself(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.TrainingError, match="the loss went wrong"):
        fit(toy_data, tmp_path, ToyUseCase(fault="raise"), devices=2)


def test_a_fit_without_progress_is_stopped(toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "STALLED_SECONDS", 3.0)
    with pytest.raises(errors.Stalled, match="made no progress for 3 s"):
        fit(toy_data, tmp_path, ToyUseCase(fault="hang"))


def test_a_missing_gpu_is_refused(toy_data: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(errors.SettingError, match="torch sees no GPU on this machine"):
        fit(toy_data, tmp_path, accelerator="gpu")
