"""The evaluator: figures that can be worked out by hand, and the whole catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.contract.errors import DataError
from tasks.contract.types import Arrays, Predict
from tasks.training.predicting import torch_predict
from tests.usecases.recommendation.logs import LAYOUTS, prepared
from usecases.recommendation import Recommendation
from usecases.recommendation.explaining import drivers
from usecases.recommendation.scores import at_cuts, ranked
from usecases.recommendation.sequences import Events, read_catalogue


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated shoppers."""
    return prepared("sample", tmp_path_factory.mktemp("shop"))[1]


def by(order: np.ndarray, k: int = 100) -> Predict:
    """Recommends the allowed items in the same order to all users."""

    def predict(inputs: Arrays) -> Arrays:
        rows = [[item for item in order if allowed[item - 1]][:k] for allowed in inputs["allowed"]]
        width = max(len(row) for row in rows)
        item = np.array([row + [0] * (width - len(row)) for row in rows])
        return {"item": item, "score": -np.arange(width, dtype=np.float32)[None, :].repeat(len(rows), 0)}

    return predict


def at_random(inputs: Arrays) -> Arrays:
    """Recommends the allowed items to each in an order of their own."""
    random = np.random.default_rng(inputs["history"].sum())
    score = random.random(inputs["allowed"].shape).astype(np.float32) * inputs["allowed"]
    item = np.argsort(-score, axis=1)[:, :100]
    return {"item": item + 1, "score": np.take_along_axis(score, item, 1)}


def test_hand_made_ranks() -> None:
    found = at_cuts(np.array([0.0, 3.0, 9.0, 10.0, np.inf]))
    assert found["hr@10"] == pytest.approx(3 / 5)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / np.log2(5) + 1 / np.log2(11)) / 5)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 4 + 1 / 10) / 5)
    assert found["hr@5"] == pytest.approx(2 / 5)
    assert found["hr@20"] == pytest.approx(4 / 5)


def test_the_rank_is_among_all_items_that_were_not_seen(shop: Path) -> None:
    usecase = Recommendation(k_core=1)
    order = np.arange(1, Events(shop).size + 1)
    examples = usecase.examples(shop, "test")
    rank, first = ranked(by(order, len(order)), examples)
    batch = examples.batch(np.arange(len(examples)))
    expected = [int(allowed[: target - 1].sum()) for allowed, target in zip(batch["allowed"], batch["target"], strict=True)]
    assert rank.tolist() == expected
    assert first.shape == (len(examples), 10)


def test_one_oracle_is_perfect_and_one_that_knows_nothing_is_chance(shop: Path) -> None:
    usecase = Recommendation(k_core=1)
    examples = usecase.examples(shop, "test")
    target = iter(examples.batch(np.arange(len(examples)))["target"])

    def oracle(inputs: Arrays) -> Arrays:
        right = [next(target) for _ in inputs["history"]]
        return {"item": np.array([[r] for r in right]).repeat(10, 1), "score": np.zeros((len(right), 10), np.float32)}

    rank, _ = ranked(oracle, examples)
    assert at_cuts(rank)["ndcg@10"] == 1
    scores = usecase.score(at_random, shop, "test")
    assert scores["hr@10"] == pytest.approx(10 / 290, abs=0.02)
    assert scores["sampled100_hr@10"] == pytest.approx(10 / 101, abs=0.04)


def test_sampled_scores_have_their_own_names(shop: Path) -> None:
    scores = Recommendation(k_core=1).score(by(np.arange(1, Events(shop).size + 1)), shop, "test")
    assert {f"{m}@{k}" for m in ("hr", "ndcg", "mrr") for k in (5, 10, 20)} <= set(scores)
    assert {"coverage@10", "novelty@10", "diversity@10", "popularity_bias@10"} <= set(scores)
    assert {name for name in scores if "sampled" in name} == {"sampled100_hr@10", "sampled100_ndcg@10"}
    assert 0 < scores["coverage@10"] <= 0.5


def test_the_simulated_structure_is_found_by_the_markov_table(shop: Path) -> None:
    usecase = Recommendation(k_core=1)
    found = {}
    for name, baseline in usecase.baselines().items():
        network = baseline.network(shop / "assets").eval()
        with torch.no_grad():
            baseline.fit(network, shop)
        found[name] = baseline.score(torch_predict(baseline, network), shop, "test")["hr@10"]
    assert set(found) == {"popular", "recent", "markov", "itemknn", "ease"}
    assert found["markov"] > 0.6  # half of all steps go to the companion, the rest to the kind
    assert found["markov"] > found["itemknn"] > found["popular"]


def test_the_event_that_drove_a_recommendation_is_named(shop: Path) -> None:
    usecase = Recommendation(k_core=1).baselines()["markov"]
    network = usecase.network(shop / "assets").eval()
    with torch.no_grad():
        usecase.fit(network, shop)
    predict = torch_predict(usecase, network)
    questions, latest = usecase.examples(shop, "test"), 0
    for row in range(50):
        batch = questions.batch(np.array([row]))
        best = int(predict({"history": batch["history"], "allowed": batch["allowed"]})["item"][0, 0])
        found = drivers(predict, batch, best)
        assert [item for item, _ in found] == batch["history"][0, ::-1][: len(found)].tolist()
        assert all(value >= 0 for _, value in found)
        latest += max(found, key=lambda pair: pair[1])[0] == batch["history"][0, -1]
    assert latest > 25, "chance would be five: half of all steps go to the companion of the last item"


def test_slices_are_by_length_of_the_history_and_by_popularity(shop: Path) -> None:
    figures = Recommendation(k_core=1).figures(by(np.arange(1, Events(shop).size + 1)), shop)
    tables = [block for block in figures["blocks"] if block["kind"] == "table"]
    questions = len(Events(shop).splits["test"])
    assert len(tables) == 2
    assert all(sum(row[1] for row in table["rows"]) == questions for table in tables)


def test_a_split_without_examples_is_an_error(tmp_path: Path) -> None:
    _, folder = prepared(LAYOUTS[0](tmp_path / "data"), tmp_path / "out")
    np.save(folder / "events" / "test.npy", np.zeros((0, 2), np.int64))
    with pytest.raises(DataError, match="no example"):
        Recommendation().score(by(np.arange(1, 6)), folder, "test")


def test_popularity_counts_training_events_only(tmp_path: Path) -> None:
    _, folder = prepared(LAYOUTS[0](tmp_path / "data"), tmp_path / "out")
    ids = read_catalogue(folder / "assets")["items"]
    counts = dict(zip(ids, np.load(folder / "assets" / "popularity.npy")[1:].tolist(), strict=True))
    assert counts == {"101": 3, "102": 2, "103": 0, "104": 1, "105": 2}
