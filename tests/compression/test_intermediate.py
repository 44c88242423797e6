"""Distillation of hidden states and attention maps, in every vertical; test_distillation tests it in a fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.compression.intermediate import (
    PROJECTIONS,
    attention_loss,
    hidden_state_loss,
    intermediate_loss,
    match_layers,
    projections,
    remove_projections,
)
from tasks.contract.capabilities import Distillable, HasHiddenStates, resolved
from tasks.contract.usecase import UseCase
from usecases.image_classification import ImageClassification
from usecases.nlp import EntityRecognition, TextClassification
from usecases.nlp.windows import NO_TAG
from usecases.recommendation import Recommendation

STEPS = 15
TEXT: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "length": 24, "vocabulary": 600, "dropout": 0, "head_dropout": 0}
SHOP: dict[str, Any] = {"k_core": 1, "length": 12, "width": 16, "dropout": 0}
VERTICALS: dict[str, tuple[UseCase, dict[str, Any]]] = {  # settings of a student, and those of its teacher that differ
    "texts": (TextClassification(**TEXT), {"width": 64, "depth": 4}),
    "texts, recurrent": (TextClassification(**TEXT, model="lstm"), {"width": 64, "depth": 4}),
    "names": (EntityRecognition(**TEXT, task="entities"), {"width": 64, "depth": 4}),
    "shop": (Recommendation(**SHOP), {"width": 32, "blocks": 4}),
    "shop, recurrent": (Recommendation(**SHOP, model="gru4rec"), {"width": 32}),
    "digits": (ImageClassification(width=8), {"width": 16}),
}
PADDED = ["texts", "texts, recurrent", "names", "shop"]  # the recurrent network of the shop reads its padding
ATTENTIVE = ["texts", "names", "shop"]
Case = tuple[UseCase, UseCase, Path]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The settings of a student and of its teacher by name, and their prepared data."""
    made: dict[str, Case] = {}

    def of(name: str) -> Case:
        if name not in made:
            student, larger = VERTICALS[name]
            folder = tmp_path_factory.mktemp("data")
            student = resolved(student, student.prepare(folder))
            made[name] = student, student.model_copy(update=larger), folder
        return made[name]

    return of


def networks(student: UseCase, teacher: UseCase, folder: Path) -> tuple[Any, Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    rows = student.examples(folder, "train").batch(np.arange(8))
    small, large = (usecase.network(folder / "assets").eval().requires_grad_(usecase is student) for usecase in (student, teacher))
    return small, large, {name: torch.from_numpy(array) for name, array in rows.items()}


def apart(usecase: UseCase, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], attention: float = 0.0) -> Tensor:
    """The distance of hidden states and attention maps alone."""

    def base_loss() -> Tensor:
        torch.manual_seed(1)  # augmentation
        assert isinstance(usecase, Distillable)
        return 0 * usecase.distillation_loss(student, teacher, batch, 0.5, 1.0)

    assert isinstance(usecase, HasHiddenStates)
    return intermediate_loss(usecase, student, teacher, batch, base_loss, 1 - attention, attention)


def test_layers_are_matched_evenly_and_the_last_with_the_last() -> None:
    assert [theirs for _, theirs in match_layers([0, 1, 2], range(12))] == [3, 7, 11]
    assert [theirs for _, theirs in match_layers([0, 1, 2, 3], range(2))] == [0, 0, 1, 1]
    assert [theirs for _, theirs in match_layers([0, 1], range(2))] == [0, 1]


def test_the_hidden_state_loss_is_the_same_for_any_width_and_ignores_padding() -> None:
    torch.manual_seed(0)
    for width in (64, 1024):
        one, other = torch.randn(40, 50, width), torch.randn(40, 50, width)
        assert float(hidden_state_loss(nn.Identity(), one, 3 * one + 2, None)) == pytest.approx(0, abs=1e-4)
        assert float(hidden_state_loss(nn.Identity(), one, other, None)) == pytest.approx(2, abs=0.05)
        known = torch.arange(50).expand(40, 50) < 10
        half_wrong = torch.where(known[..., None], one, other)
        assert float(hidden_state_loss(nn.Identity(), one, half_wrong, known)) == pytest.approx(0, abs=1e-4)
        assert float(hidden_state_loss(nn.Identity(), one, half_wrong, torch.zeros_like(known))) == 0
    maps = torch.randn(4, 8, 6, 6)
    coarse = F.adaptive_avg_pool2d(maps, 3)
    assert float(hidden_state_loss(nn.Identity(), maps, coarse, None)) == pytest.approx(0, abs=1e-5), "the finer maps are pooled"


def test_the_attention_loss_is_the_kullback_leibler_divergence() -> None:
    own, theirs = torch.tensor([[[[0.5, 0.5, 0.0]]]]), torch.tensor([[[[0.25, 0.75, 0.0]]]])
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert float(attention_loss(own, theirs, None)) == pytest.approx(expected, rel=1e-5)
    assert float(attention_loss(own.expand(-1, 2, -1, -1), theirs, None)) == pytest.approx(expected, rel=1e-5), "other heads: their mean"


@pytest.mark.parametrize("name", VERTICALS)
def test_the_hidden_state_loss_is_zero_for_equal_networks_and_falls_with_a_wider_teacher(name: str, case: Callable[[str], Case]) -> None:
    usecase, wider, folder = case(name)
    student, teacher, batch = networks(usecase, wider, folder)
    assert float(apart(usecase, student, student, batch)) == pytest.approx(0, abs=1e-5)
    inputs = usecase.calibration_inputs(folder, np.arange(2))
    student.add_module(PROJECTIONS, projections(usecase, student, teacher, inputs))
    assert any(isinstance(layer, nn.Linear) for layer in student.projections)
    before = float(apart(usecase, student, teacher, batch).detach())
    optimizer = torch.optim.AdamW(student.parameters(), 1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        apart(usecase, student, teacher, batch).backward()
        optimizer.step()
    assert float(apart(usecase, student, teacher, batch).detach()) < 0.5 * before
    remove_projections(student)
    assert not any(PROJECTIONS in weight for weight in student.state_dict())
    hooks = [module._forward_hooks for network in (student, teacher) for module in network.modules()]
    assert not any(hooks)


@pytest.mark.parametrize("name", ATTENTIVE)
def test_a_student_learns_the_attention_of_its_teacher(name: str, case: Callable[[str], Case]) -> None:
    usecase, wider, folder = case(name)
    student, teacher, batch = networks(usecase, wider, folder)
    with torch.no_grad():
        assert isinstance(usecase, HasHiddenStates)
        for layer in usecase.attention_layers(teacher):
            layer.query.weight.mul_(8)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    assert float(apart(usecase, student, student, batch, attention=1)) == pytest.approx(0, abs=1e-6)
    before = float(apart(usecase, student, teacher, batch, attention=1).detach())
    optimizer = torch.optim.AdamW(student.parameters(), 1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        apart(usecase, student, teacher, batch, attention=1).backward()
        optimizer.step()
    assert float(apart(usecase, student, teacher, batch, attention=1).detach()) < 0.5 * before


@pytest.mark.parametrize("name", PADDED)
def test_padding_does_not_change_the_loss(name: str, case: Callable[[str], Case]) -> None:
    usecase, _, folder = case(name)
    student, _, batch = networks(usecase, usecase, folder)
    teacher = networks(usecase, usecase, folder)[1]
    shop = isinstance(usecase, Recommendation)
    narrow = {key: rows[:, -6:] if shop else rows[:, :12] for key, rows in batch.items() if rows.ndim == 2}
    filled = {"tags": NO_TAG}
    wide = {key: F.pad(rows, (6, 0) if shop else (0, 12), value=filled.get(key, 0)) for key, rows in narrow.items()}
    for attention in (0.0, 1.0) if name in ATTENTIVE else (0.0,):
        one, other = (float(apart(usecase, student, teacher, batch | rows, attention).detach()) for rows in (narrow, wide))
        assert one == pytest.approx(other, rel=1e-4) and one > 0
