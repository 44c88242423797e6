"""A student learns its teacher's opinion, through the same loop as any fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks import store
from tasks.artifacts import Checkpoint, Dataset
from tasks.baselines import compute
from tasks.compression.distillation import Distillation, soft_loss
from tasks.compression.inside import PROJECTIONS
from tasks.errors import SettingError
from tasks.settings import Fit
from tasks.train import fit_network
from tasks.training import launch
from tests.toy import ToyUseCase

QUICK = Fit(epochs=8, batch_size=32, learning_rate=0.02)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    usecase = ToyUseCase(hidden=64)

    def build(folder: Path) -> dict[str, object]:
        card = usecase.prepare(folder)
        (folder / "card.json").write_text(json.dumps(card))
        return {"usecase": usecase, "sizes": card["sizes"]}

    return store.make(Dataset, {"for": "distillation"}, build)[0]


@pytest.fixture(scope="module")
def teacher(dataset: Dataset) -> Checkpoint:
    return fit_network("train", dataset.usecase, dataset, QUICK)


def test_the_soft_loss_is_hintons() -> None:
    student, wanted = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[3.0, 0.0, 1.0]])
    expected = -(torch.softmax(wanted / 2, 1) * torch.log(torch.softmax(student / 2, 1))).sum() * 4
    assert soft_loss(student, wanted, 2.0) == pytest.approx(float(expected))
    masked = torch.tensor([[1.0, float("-inf")]])
    assert soft_loss(masked, masked, 1.0) == pytest.approx(0), "a class that neither may choose costs nothing"


def test_a_student_is_half_the_size_and_nearly_as_good(dataset: Dataset, teacher: Checkpoint) -> None:
    smaller = teacher.usecase.smaller()
    assert smaller is not None
    student = fit_network("distil", smaller, dataset, QUICK, technique=Distillation(teacher=teacher))
    assert student.scores["accuracy"] > teacher.scores["accuracy"] - 0.05
    sizes = [(made.folder / "weights.safetensors").stat().st_size for made in (student, teacher)]
    assert sizes[0] < 0.7 * sizes[1]
    assert teacher.digest in student.made_from


def test_a_student_of_nothing_but_its_teacher_agrees_with_it(dataset: Dataset, teacher: Checkpoint) -> None:
    """Taught by one that is always wrong, it is wrong."""
    wrong = ToyUseCase(hidden=64)
    contrary, _ = store.make(
        Checkpoint,
        {"name": "contrary", "of": teacher.digest},
        lambda work: {**upside_down(teacher, work), "usecase": wrong, "made_from": ()},
    )
    technique = Distillation(teacher=contrary, weight=1.0)
    student = fit_network("distil", ToyUseCase(hidden=32), dataset, QUICK, technique=technique)
    assert student.scores["accuracy"] < 0.3


def test_a_student_is_taught_hidden_states_and_its_projection_is_resumed_but_not_kept(
    dataset: Dataset, teacher: Checkpoint, tmp_path: Path
) -> None:
    fit = QUICK.model_copy(update={"epochs": 3, "ema": 0.8, "patience": 3})
    student, technique = ToyUseCase(hidden=32), Distillation(teacher=teacher, hidden=1.0)
    digests = []
    for attempt in ("whole", "resumed", "again"):
        work = tmp_path / ("other" if attempt == "again" else "one")
        launch.fit(student, dataset.folder, fit, work, technique=technique)
        kept = work / "weights.safetensors"
        assert set(load_file(kept)) == set(student.network(dataset.assets).state_dict())
        digests.append(store.file_digest(kept))
        kept.unlink()
        if attempt == "whole":
            saved = sorted((work / ".work" / "checkpoints").glob("step-*.pt"))
            assert f"{PROJECTIONS}.0.weight" in torch.load(saved[0], weights_only=True)["network"]
            saved[-1].unlink()  # as if it had been killed in the last epoch
    assert len(set(digests)) == 1


def test_a_network_without_attention_cannot_be_taught_it(dataset: Dataset, teacher: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"--teaching\.attention 0\.5: this network of toy has none"):
        launch.fit(ToyUseCase(hidden=32), dataset.folder, QUICK, tmp_path, technique=Distillation(teacher=teacher, attention=0.5))


def upside_down(teacher: Checkpoint, work: Path) -> dict[str, object]:
    weights = load_file(teacher.folder / "weights.safetensors")
    save_file({name: -value if name.startswith("head") else value for name, value in weights.items()}, work / "weights.safetensors")
    shutil.copytree(teacher.assets, work / "assets")
    return teacher.model_dump(include={"scores", "seconds", "epochs", "precision", "precision_gap", "examples_per_second"})


def test_a_baseline_is_computed_once(dataset: Dataset) -> None:
    majority = dataset.usecase.baselines()["majority"]
    first, cached = compute("majority", majority, dataset)
    again, found = compute("majority", majority, dataset)
    assert (cached, found) == (False, True)
    assert first == again
    assert 0.4 < first.scores["accuracy"] < 0.75
    assert first.epochs == 0
