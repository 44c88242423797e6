"""The approximate index: every item is in it, filters hold, and it agrees with an exact search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.contract.types import Arrays
from usecases.recommendation import Recommendation
from usecases.recommendation.nearest import NearestItems, inverted_lists
from usecases.recommendation.network import NextItem, Recommender, SelfAttentive
from usecases.recommendation.scores import recall_of_exact

ITEMS, LENGTH, WIDTH = 3000, 6, 16


@pytest.fixture(scope="module")
def network() -> NextItem:
    """Items in kinds, as those of a shop are."""
    torch.manual_seed(0)
    backbone = SelfAttentive(Recommendation(length=LENGTH, width=WIDTH, blocks=1), ITEMS)
    kinds = torch.randn(40, WIDTH)
    with torch.no_grad():
        backbone.item.weight[1:] = kinds[torch.randint(40, (ITEMS,))] + 0.3 * torch.randn(ITEMS, WIDTH)
    return NextItem(backbone, torch.log(torch.rand(ITEMS) + 1e-3)).eval()


def asked(network: NextItem, scanned: float, allowed: torch.Tensor) -> tuple[Arrays, Arrays]:
    """The answers of the index and of an exact search to the same requests; the first of them is a cold-start user."""
    history = torch.randint(1, ITEMS + 1, (len(allowed), LENGTH), generator=torch.Generator().manual_seed(1))
    history[0] = 0
    with torch.no_grad():
        found, expected = NearestItems(network, scanned)(history, allowed), Recommender(network)(history, allowed)
    return in_numpy(found), in_numpy(expected)


def in_numpy(answer: tuple[torch.Tensor, torch.Tensor]) -> Arrays:
    return {"item": answer[0].numpy(), "score": answer[1].numpy()}


@pytest.mark.parametrize("vectors", [np.random.default_rng(0).normal(size=(1000, 8)), np.ones((1000, 8)), np.eye(3)])
def test_every_item_is_in_one_list(vectors: np.ndarray) -> None:
    members, centres, offset = inverted_lists(vectors.astype(np.float32))
    assert sorted(members[members > 0]) == list(range(1, len(vectors) + 1))
    assert len(members) == len(centres) == len(offset)


def test_all_lists_together_are_an_exact_search(network: NextItem) -> None:
    found, expected = asked(network, 1.0, torch.ones(20, ITEMS, dtype=torch.bool))
    assert recall_of_exact(found, expected) == {"recall_of_exact@10": 1.0}
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-4, atol=1e-5)


def test_a_tenth_of_the_catalogue_holds_nearly_all_that_is_best(network: NextItem) -> None:
    found, expected = asked(network, 0.1, torch.ones(200, ITEMS, dtype=torch.bool))
    assert recall_of_exact(found, expected)["recall_of_exact@10"] > 0.9


def test_filters_hold(network: NextItem) -> None:
    allowed = torch.rand(50, ITEMS, generator=torch.Generator().manual_seed(2)) < 0.2
    found, _ = asked(network, 0.1, allowed)
    for row, items, scores in zip(allowed.numpy(), found["item"], found["score"], strict=True):
        answered = items[np.isfinite(scores)]
        assert len(answered)
        assert row[answered - 1].all()


def test_recall_by_hand() -> None:
    exact = {"item": np.array([[1, 2, 3]]), "score": np.array([[3.0, 2.0, -np.inf]])}
    other = {"item": np.array([[2, 5, 1]]), "score": np.array([[2.0, 1.0, -np.inf]])}
    assert recall_of_exact(other, exact) == {"recall_of_exact@10": 0.5}


def test_only_large_catalogues_get_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.usecases.recommendation.logs import prepared

    assets = prepared("sample", tmp_path_factory.mktemp("shop"))[1] / "assets"
    assert Recommendation().approximation(assets) is None
    found = Recommendation(exact_up_to=100, width=16).approximation(assets)
    assert found is not None
    assert found.settings()["width"] == 16
