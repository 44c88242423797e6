"""Rehearsal: a trained network is fine-tuned for a part of the data, mixed with other examples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tasks import store
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.errors import SettingError
from tasks.settings import Adaptation, Fit
from tasks.train import adapt, fit_network
from tasks.training.rehearsal import Rehearsal, rehearsal_rows
from tests.toy import ToyUseCase


def prepared(usecase: ToyUseCase) -> Dataset:
    def build(folder: Path) -> dict[str, object]:
        card = usecase.prepare(folder)
        (folder / "card.json").write_text(json.dumps(card))
        return {"usecase": usecase, "sizes": card["sizes"]}

    return store.make(Dataset, {"for": "rehearsal", "usecase": usecase.settings()}, build)[0]


@pytest.fixture(scope="module")
def trained() -> tuple[Dataset, Checkpoint]:
    dataset = prepared(ToyUseCase(east=True))
    return dataset, fit_network("train", dataset.usecase, dataset, Fit(epochs=8, batch_size=32, learning_rate=0.02))


def test_other_examples_have_their_share_and_all_of_them_are_used() -> None:
    focus = np.array([2, 5, 7])
    rows = rehearsal_rows(30, focus, 0.5)
    assert np.isin(rows, focus).mean() == pytest.approx(0.5, abs=0.05)
    assert sorted(rows[~np.isin(rows, focus)]) == [row for row in range(30) if row not in focus]
    assert rehearsal_rows(30, focus, 0.0).tolist() == focus.tolist()
    assert set(rehearsal_rows(4, np.arange(4), 0.5)) == set(range(4)), "if all examples are of the focus, all are trained on"


def test_adaptation_starts_from_the_trained_network(trained: tuple[Dataset, Checkpoint]) -> None:
    dataset, checkpoint = trained
    fit = Adaptation(epochs=2, batch_size=32, learning_rate=1e-9)
    adapted = adapt.fn(checkpoint, dataset, fit)
    before, after = (load_file(one.folder / "weights.safetensors") for one in (checkpoint, adapted))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before if name.endswith(("weight", "bias")))
    assert checkpoint.digest in adapted.made_from
    assert adapt.fn(checkpoint, dataset, fit.model_copy(update={"epochs": 0})) == checkpoint


@pytest.mark.slow
def test_without_rehearsal_only_the_focus_is_trained_on(trained: tuple[Dataset, Checkpoint]) -> None:
    """Nearly all points in the east are outside the circle: training on them alone makes the network forget, rehearsal prevents it."""
    dataset, checkpoint = trained
    scores = {
        share: adapt.fn(checkpoint, dataset, Adaptation(epochs=30, batch_size=16, learning_rate=0.05, rehearsal=share)).scores["accuracy"]
        for share in (0.0, 0.5)
    }
    assert scores[0.5] > scores[0.0] + 0.1 and scores[0.5] > checkpoint.scores["accuracy"] - 0.05


def test_a_use_case_without_a_focus_is_refused() -> None:
    dataset = prepared(ToyUseCase())
    checkpoint = fit_network("train", dataset.usecase, dataset, Fit(epochs=1, batch_size=64))
    assert adapt.fn(checkpoint, dataset, Adaptation(epochs=3)) == checkpoint
    with pytest.raises(SettingError, match="nothing to adapt to"):
        fit_network("adapt", dataset.usecase, dataset, Fit(epochs=1), technique=Rehearsal(trained=checkpoint, share=0.5))
