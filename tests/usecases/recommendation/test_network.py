"""The networks look back only, the losses are what their papers say, and every graph is torch's twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tasks.contract.capabilities import Computed, soft_loss
from tasks.contract.errors import SettingError
from tasks.contract.types import Arrays
from tasks.contract.usecase import UseCase
from tasks.exporting.export import check_parity, check_symbolic_axes, write_graph
from tests.tiers import matrix
from tests.usecases.recommendation.logs import prepared
from usecases.pruning import low_rank
from usecases.recommendation import NearItems, Recommendation
from usecases.recommendation.network import NextItem
from usecases.recommendation.objective import calibrated_cross_entropy, next_item_loss, positive_power
from usecases.recommendation.softmax import Teacher, softmax_loss

SMALL: dict[str, Any] = {"k_core": 1, "length": 12, "width": 16}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared("sample", tmp_path_factory.mktemp("shop"))[1]


def built(shop: Path, **settings: Any) -> NextItem:
    torch.manual_seed(0)
    return cast(NextItem, Recommendation(**{**SMALL, **settings}).network(shop / "assets").eval())


def a_batch(shop: Path, usecase: Recommendation, count: int = 32) -> dict[str, torch.Tensor]:
    rows = usecase.examples(shop, "train").batch(np.arange(count))
    return {name: torch.from_numpy(array) for name, array in rows.items()}


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_a_state_knows_nothing_of_later_events(model: str, shop: Path) -> None:
    network = built(shop, model=model)
    history = torch.arange(1, 13)[None]
    changed = history.clone()
    changed[0, -1] = 99
    before, after = network.states(history), network.states(changed)
    assert torch.allclose(before[:, :-1], after[:, :-1], atol=1e-6)
    assert not torch.allclose(before[:, -1], after[:, -1], atol=1e-3)


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_the_latest_state_alone_is_the_last_of_all(model: str, shop: Path) -> None:
    network = built(shop, model=model)
    history = torch.arange(24).view(2, 12)  # the first begins with padding
    assert torch.allclose(network.latest(history), network.states(history)[:, -1], atol=1e-6)


def test_cold_start_users_get_the_most_popular_items(shop: Path) -> None:
    network = built(shop)
    scores = network(torch.zeros(2, 12, dtype=torch.int64))
    assert scores.argmax(1).tolist() == [int(np.load(shop / "assets" / "popularity.npy")[1:].argmax())] * 2


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
@pytest.mark.parametrize("objective", ["softmax", "sampled", "gbce", "bce"])
def test_every_objective_learns(model: str, objective: str, shop: Path) -> None:
    usecase = Recommendation(**SMALL, model=model, objective=objective, dropout=0)  # pyright: ignore[reportArgumentType]
    network = built(shop, model=model, objective=objective, dropout=0).train()
    batch = a_batch(shop, usecase)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = next_item_loss(usecase, network, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_softmax_is_over_the_whole_catalogue(shop: Path) -> None:
    usecase = Recommendation(**SMALL, objective="softmax")
    network, batch = built(shop), a_batch(shop, Recommendation(**SMALL))
    places = torch.nonzero(batch["target"])
    probabilities = [torch.softmax(network.states(batch["history"])[b, p] @ network.items().T, 0) for b, p in places]
    expected = -np.mean([float(torch.log(p[batch["target"][b, at] - 1])) for p, (b, at) in zip(probabilities, places, strict=True)])
    assert float(next_item_loss(usecase, network, batch)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_softmax_in_parts_is_torchs_with_its_gradients(mixed: bool) -> None:
    torch.manual_seed(0)
    states, items = torch.randn(600, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    target = torch.randint(50, (600,))
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        ours = softmax_loss(states, items, target)
    found = torch.autograd.grad(2 * ours, (states, items))
    expected = torch.nn.functional.cross_entropy(states @ items.T, target)
    assert float(ours) == pytest.approx(float(expected), rel=1e-2 if mixed else 1e-5)
    for gradient, right in zip(found, torch.autograd.grad(2 * expected, (states, items)), strict=True):
        assert torch.allclose(gradient, right, atol=float(right.abs().max()) * (2e-2 if mixed else 1e-4))


def test_the_distillation_loss_in_chunks_is_that_of_hinton() -> None:
    torch.manual_seed(0)
    states, items = torch.randn(600, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    teacher_states, teacher_items, target = torch.randn(600, 5), torch.randn(50, 5), torch.randint(50, (600,))
    ours = softmax_loss(states, items, target, Teacher(teacher_states, teacher_items, weight=0.3, temperature=2.0))
    scores = states @ items.T
    distilled = soft_loss(scores, teacher_states @ teacher_items.T, 2.0)
    expected = 0.7 * torch.nn.functional.cross_entropy(scores, target) + 0.3 * distilled
    assert float(ours) == pytest.approx(float(expected), rel=1e-5)
    for gradient, right in zip(*(torch.autograd.grad(loss, (states, items)) for loss in (ours, expected)), strict=True):
        assert torch.allclose(gradient, right, atol=1e-6)


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_a_student_begins_as_its_teacher_in_half_the_size(model: str, shop: Path) -> None:
    usecase = Recommendation(**{**SMALL, "width": 32}, model=model)  # pyright: ignore[reportArgumentType]
    smaller = usecase.student_usecase()
    assert isinstance(smaller, Recommendation)
    teacher = cast(NextItem, usecase.network(shop / "assets").eval())
    with torch.no_grad():  # vectors that lie near a plane, as learnt ones do
        rank = smaller.item_rank
        teacher.backbone.item.weight[1:] = torch.randn(len(teacher.items()), rank) @ torch.randn(rank, 32) / 6
    student = cast(NextItem, smaller.network(shop / "assets").eval())
    smaller.initialise_student(student, teacher)
    every = torch.arange(len(teacher.items()) + 1)
    assert torch.allclose(student.backbone.item(every), teacher.backbone.item(every), atol=1e-4)
    if model == "sasrec":
        assert agreement(student, teacher, a_batch(shop, usecase)["history"]) > 0.4, "before it has learnt anything"
    sizes = [sum(weights.numel() for weights in network.parameters()) for network in (student, teacher)]
    assert sizes[0] < 0.62 * sizes[1]


def agreement(one: NextItem, other: NextItem, history: torch.Tensor) -> float:
    """Correlation of their scores."""
    with torch.no_grad():
        return float(torch.corrcoef(torch.stack([one(history).flatten(), other(history).flatten()]))[0, 1])


def test_the_directions_kept_are_those_of_popular_items() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.2], [0.0, 1.2]])
    for weights, kept in ((torch.tensor([0.45, 0.45, 0.05, 0.05]), slice(0, 2)), (None, slice(2, 4))):
        numbers, directions = low_rank(vectors, 1, weights)
        assert torch.allclose((numbers @ directions.T)[kept], vectors[kept])


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_padding_changes_nothing(model: str, shop: Path) -> None:
    network = built(shop, model=model, item_rank=8)
    history = torch.arange(1, 6)[None]
    padded = torch.nn.functional.pad(history, (7, 0))
    if model == "sasrec":
        assert torch.allclose(network.states(history), network.states(padded)[:, 7:], atol=1e-6)
    assert network.states(padded).shape == (1, 12, 8)


def test_gsasrec_undoes_the_overconfidence_of_sampling() -> None:
    """Petrov 2023: t = 0 is binary cross-entropy as it is, t = 1 raises the positive to the sampling rate."""
    assert positive_power(256, 3417, 0.0) == pytest.approx(1)
    assert positive_power(256, 3417, 1.0) == pytest.approx(256 / 3416)
    right, wrong = torch.tensor([1.0, -2.0]), torch.tensor([[0.5, 0.0], [1.0, -1.0]])
    plain = [
        -np.log(1 / (1 + np.exp(-r))) - sum(np.log(1 - 1 / (1 + np.exp(-w))) for w in ws)
        for r, ws in zip(right.numpy(), wrong.numpy(), strict=True)
    ]
    assert float(calibrated_cross_entropy(right, wrong, 1.0)) == pytest.approx(np.mean(plain), rel=1e-5)
    assert calibrated_cross_entropy(right, wrong, 0.1) < calibrated_cross_entropy(right, wrong, 1.0)


def test_heads_that_do_not_divide_the_width_are_refused(shop: Path) -> None:
    with pytest.raises(SettingError, match=r"heads 3 does not divide --usecase\.width 16"):
        built(shop, heads=3)


def candidates() -> list[UseCase]:
    usecase = Recommendation(**SMALL)
    near = NearItems(**SMALL, scanned=0.5)
    return [usecase, Recommendation(**SMALL, model="gru4rec"), near, *usecase.baselines().values()]


@pytest.mark.parametrize("usecase", matrix(candidates()), ids=lambda u: getattr(u, "method", f"{type(u).__name__}-{u.model}"))
def test_every_graph_is_the_twin_of_its_network(usecase: UseCase, shop: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = usecase.network(shop / "assets").eval()
    if isinstance(usecase, Computed):
        with torch.no_grad():
            usecase.fit(network, shop)
    batch = usecase.examples(shop, "test").batch(np.arange(7))
    sample: Arrays = {name: batch[name] for name in usecase.input_names}
    sample["history"][0] = 0  # a cold-start user
    write_graph(usecase, network, {name: array[:2] for name, array in sample.items()}, tmp_path / "model.onnx")
    check_symbolic_axes(tmp_path / "model.onnx")
    check_parity(usecase, network, sample, tmp_path / "model.onnx")
