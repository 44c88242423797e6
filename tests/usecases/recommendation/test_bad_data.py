"""Unusable logs: errors name what is wrong, and unusable rows are set aside by line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tasks.contract.errors import DataError
from tests.usecases.changes import unnoticed_changes
from tests.usecases.recommendation.logs import HISTORIES, LAYOUTS, ROWS, histories, prepared, recbole, write
from usecases.recommendation import Recommendation

HEADER = "user,item,time\n"
GOOD = "".join(f"{u},{i},{t}\n" for u, i, t in ROWS)


def csv(text: str, name: str = "log.csv") -> Callable[[Path], Path]:
    return lambda folder: write(folder / name, text)


def empty_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def unreadable_users(folder: Path) -> Path:
    folder.mkdir()
    pl.DataFrame({"user": [b"\xff", b"\xfe"], "item": ["a", "b"]}).write_parquet(folder / "log.parquet")
    return folder


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (lambda f: f / "nowhere", {}, "nowhere does not exist. Give a folder or file"),
        (empty_folder, {}, "No log was found in"),
        (csv(""), {}, "log.csv is empty. It should hold an event per line"),
        (csv("when,what\n1,2\n"), {"user_column": "what"}, "no column with a known name of the item. Columns: when, what"),
        (csv(HEADER + GOOD), {"item_column": "sku"}, "--usecase.item_column sku: log.csv has no such column. Columns: user, item, time"),
        (csv(HEADER), {}, "has no usable event"),
        (csv(HEADER + ",,\n" * 4), {}, "has no usable event"),
        (csv("5\n6\n7\n8\n"), {}, "log.csv has a single column: '5'. A line should hold user, item"),
        (csv(HEADER + GOOD + "7,,5\n,101,5\n"), {}, "rows"),
        (csv(HEADER + GOOD + "7,101,tomorrow\n8,101,\n"), {}, "row without a readable time"),
        (csv(HEADER + GOOD), {"min_rating": 4}, "--usecase.min_rating 4: the log has no column of ratings"),
        (csv(HEADER + GOOD), {"focus_action": "buy"}, "--usecase.focus_action buy: the log has no column of actions"),
        (csv("user,item,action\na,b,view\n"), {"focus_action": "buy"}, "sequences are left"),
        (recbole, {"focus_category": "Horror"}, "no item has this category. Categories: Action, Comedy, Crime, Drama"),
        (csv("".join(f"{u} {i}\n" for u, i, _ in ROWS), "log.txt"), {"split": "time"}, "--usecase.split time: the log has no times"),
        (csv("".join(f"{u} {i}\n" for u, i, _ in ROWS), "log.txt"), {"focus_days": 3}, "--usecase.focus_days needs times"),
        (recbole, {"k_core": 50}, "0 sequences are left after --usecase.k_core 50"),
        (csv("a b\na c\nd e\nd f\ng h\n", "log.txt"), {}, "No example is left for the"),
        (csv(json.dumps([{"user": u, "item": i} for u, i, _ in ROWS]), "log.json"), {}, "does not hold JSON lines of events"),
        (csv(json.dumps([{"user": u, "item": i} for u, i, _ in ROWS], indent=1), "log.txt"), {}, "Write an object with user and item per line"),
        (csv("".join(f'["{u}", "{i}"]\n' for u, i, _ in ROWS), "log.txt"), {}, "does not hold JSON lines of events"),
        (csv('{"user": "7", "what": "101"}\n', "log.jsonl"), {}, "no column with a known name of the item. Columns: user, what"),
        (unreadable_users, {}, "The log (a parquet table) cannot be read"),
        (csv("PAR1 no more", "log.parquet"), {}, "log.parquet cannot be read as parquet"),
    ],
)  # fmt: skip
def test_an_error_names_what_is_wrong(make: Callable[[Path], Path], settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(make(tmp_path / "data"), tmp_path / "out", **settings)
    assert words in str(caught.value)


def test_bad_rows_are_set_aside_by_line_and_the_rest_is_used(tmp_path: Path) -> None:
    damaged = HEADER + GOOD + "7,,900000009\n,101,900000009\n8,102,yesterday\n\n7,103\n"
    card, folder = prepared(write(tmp_path / "log.csv", damaged), tmp_path / "out", tolerance=0.5)
    assert histories(folder) == HISTORIES
    found = {f["kind"]: f["examples"] for f in card["findings"]}
    first = 2 + len(ROWS)
    assert found["row without an item"] == [f"line {first}"]
    assert f"line {first + 1}" in found["row without a user"]
    assert found["row without a readable time"] == [f"line {first + 2}", f"line {first + 4}"]


def test_odd_characters_and_spaces_are_no_other_item(tmp_path: Path) -> None:
    text = HEADER + "".join(f" {u} , {i} ,{t}\n" for u, i, t in ROWS)
    card, folder = prepared(write(tmp_path / "log.csv", text), tmp_path / "out")
    assert histories(folder) == HISTORIES
    assert not card["findings"]


def test_a_log_in_another_encoding_is_read(tmp_path: Path) -> None:
    text = HEADER + "".join(f"{u},caf\u00e9 {i},{t}\n" for u, i, t in ROWS)
    _, folder = prepared(write(tmp_path / "log.csv", text, "latin-1"), tmp_path / "out")
    assert {user: len(items) for user, items in histories(folder).items()} == {user: len(items) for user, items in HISTORIES.items()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_the_digest_of_the_data_notices_every_change(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    data = layout(tmp_path / "data")
    usecase = Recommendation(data=str(data))
    assert usecase.data_digest() == Recommendation(data=str(data), width=128).data_digest()
    assert not unnoticed_changes(usecase, tmp_path)
