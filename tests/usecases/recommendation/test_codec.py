"""Requests and answers by raw ids; unknown ids are no errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.contract.errors import BundleError
from tests.reporting.answers import drawn_everywhere
from tests.usecases.recommendation.logs import GENRES, HISTORIES, TITLES, prepared, recbole
from usecases.recommendation.codec import HistoryCodec


@pytest.fixture
def codec(tmp_path: Path) -> HistoryCodec:
    _, folder = prepared(recbole(tmp_path / "data"), tmp_path / "out")
    return HistoryCodec(folder / "assets", length=3)


def ids(codec: HistoryCodec, allowed: np.ndarray) -> set[str]:
    return {codec.items[i] for i in np.flatnonzero(allowed)}


def test_a_history_becomes_its_latest_events_on_the_right(codec: HistoryCodec) -> None:
    history = codec.encode([{"history": ["101", "102"]}, {"history": HISTORIES["8"]}])["history"]
    assert history[0].tolist() == [0, codec.number["101"], codec.number["102"]]
    assert history[1].tolist() == [codec.number[i] for i in HISTORIES["8"][-3:]]


def test_cold_start_users_and_unknown_items_are_no_error(codec: HistoryCodec) -> None:
    inputs = codec.encode([[], {"history": ["never heard of"]}, {"history": ["???", "101", 104]}])
    assert inputs["history"][:2].sum() == 0
    assert inputs["history"][2].tolist() == [0, codec.number["101"], codec.number["104"]]
    assert inputs["allowed"][0].all()


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({}, {"102", "103", "104", "105"}),
        ({"filter_seen": False}, set(TITLES)),
        ({"deny": ["102", "unknown"]}, {"103", "104", "105"}),
        ({"allow": ["102", "103", "101", "unknown"]}, {"102", "103"}),
        ({"category": "Drama"}, {i for i, kinds in GENRES.items() if "Drama" in kinds}),
        ({"category": "Drama", "deny": ["103"]}, {"105"}),
        ({"history": list(TITLES), "deny": ["102"]}, set(TITLES) - {"102"}),
    ],
)
def test_filters_narrow_the_recommendations(codec: HistoryCodec, filters: dict[str, Any], left: set[str]) -> None:
    inputs = codec.encode([{"history": ["101"], **filters}])
    assert ids(codec, inputs["allowed"][0]) == left


def test_answers_speak_of_raw_ids_and_titles_and_leave_out_what_is_not_allowed(codec: HistoryCodec) -> None:
    outputs = {
        "item": np.array([[codec.number["103"], codec.number["104"], codec.number["101"]]] * 2),
        "score": np.array([[3.0, 1.0, -np.inf]] * 2, np.float32),
    }
    full, short = codec.decode(outputs, [["101"], {"history": ["101"], "k": 1}])
    assert [row["item"] for row in full["items"]] == ["103", "104"]
    assert full["items"][0] == {"item": "103", "score": 3.0, "title": "東京物語", "categories": ["Drama"]}
    assert len(short["items"]) == 1


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("101", "neither a list of ids nor an object"),
        ({"history": "101"}, "history should be a list of ids"),
        ({"history": [], "deny": 5}, "deny should be a list of ids"),
        ({"histroy": []}, "unknown fields: histroy. Known fields: history"),
        ({"history": [], "k": 0}, "k should be a whole number of at least 1, not 0"),
        ({"history": [], "k": True}, "k should be a whole number"),
        ({"history": [], "category": "Horror"}, "no item has the category 'Horror'. Categories: Action, Comedy, Crime, Drama"),
        ({"history": [], "category": ["Drama"]}, "category should be a string"),
        ({"history": [], "filter_seen": "yes"}, "filter_seen should be true or false"),
        ({"history": [], "allow": []}, "leaves no item to recommend"),
        ({"history": [], "deny": list(TITLES)}, "leaves no item to recommend"),
    ],
)
def test_the_error_for_a_malformed_request_names_what_is_wrong(codec: HistoryCodec, request_: Any, words: str) -> None:
    with pytest.raises(BundleError) as caught:
        codec.encode([[], request_])
    assert words in str(caught.value)
    assert "Request 2" in str(caught.value)


def test_a_request_is_a_file_json_or_ids_with_commas(codec: HistoryCodec, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"history": ["101"], "k": 3}')
    assert codec.read(str(tmp_path / "request.json")) == {"history": ["101"], "k": 3}
    assert codec.read('["101", "102"]') == {"history": ["101", "102"]}
    assert codec.read("101, 102") == {"history": ["101", "102"]}
    with pytest.raises(BundleError, match="not valid JSON"):
        codec.read('{"history": ')


def test_an_answer_is_shown_by_titles_with_the_events_that_drove_it(codec: HistoryCodec) -> None:
    recommended = {"item": np.array([[codec.number["103"]]]), "score": np.array([[3.0]], np.float32)}
    (answer,) = codec.decode(recommended, [["101"]])
    assert drawn_everywhere(codec.blocks(["101"], answer)).splitlines() == ["Recommended", "    1.    3.0000  103  東京物語  Drama"]
    because = [{"item": "101", "title": "A Night", "lost": 0.25}, {"item": "102", "lost": 0.5}]
    explained = {**answer, "explanation": {"item": "103", "title": "東京物語", "because": because}}
    text = drawn_everywhere(codec.blocks(["101"], explained))
    assert "Why 東京物語" in text and "0.25" in text and "A Night" in text and "102" in text
    assert "history is empty" in drawn_everywhere(codec.blocks([], {**answer, "explanation": {"item": "103", "because": []}}))
