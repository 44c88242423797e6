"""Logs in the field's layouts become the same histories, and no split knows of its future."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.usecases.recommendation.logs import GENRES, HISTORIES, LAYOUTS, ROWS, TITLES, asked, histories, prepared, write
from usecases.recommendation import Recommendation
from usecases.recommendation.sequences import Events, read_catalogue


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_gives_the_same_histories(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    card, folder = prepared(layout(tmp_path / "data"), tmp_path / "out")
    assert histories(folder) == HISTORIES
    assert card["facts"]["users"] == 4
    assert card["facts"]["items"] == 5
    assert not [f for f in card["findings"] if f["action"] == "set aside"]


@pytest.mark.parametrize("layout", LAYOUTS[:4], ids=lambda layout: layout.__name__)
def test_titles_and_categories_come_along(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    _, folder = prepared(layout(tmp_path / "data"), tmp_path / "out")
    card = read_catalogue(folder / "assets")
    titles, kinds = dict(zip(card["items"], card["titles"], strict=True)), dict(zip(card["items"], card["categories"], strict=True))
    assert kinds == GENRES
    assert titles["102"] == "Café"
    assert titles in (TITLES, {**TITLES, "103": "Tokyo Story"})


def test_leave_one_out_asks_for_the_last_item(tmp_path: Path) -> None:
    _, folder = prepared(LAYOUTS[0](tmp_path / "data"), tmp_path / "out")
    assert asked(folder, "test") == [(items[:-1], items[-1]) for items in HISTORIES.values()]
    assert asked(folder, "validation") == [(items[:-2], items[-2]) for items in HISTORIES.values()]
    train = Events(folder).splits["train"]
    assert [stop - start for start, stop in train] == [len(items) - 2 for items in HISTORIES.values()]


def test_a_split_by_time_never_learns_what_came_later(tmp_path: Path) -> None:
    _, folder = prepared("sample", tmp_path / "out", split="time", test_share=0.2, validation_share=0.1)
    times = sample_times(tmp_path)
    events = Events(folder)
    learnt = max(times[stop - 1] for _, stop in events.splits["train"])
    validation, test = ([times[target] for _, target in events.splits[split]] for split in ("validation", "test"))
    assert learnt < min(validation) <= max(validation) < min(test)
    total = len(events.items)
    assert len(test) == pytest.approx(0.2 * total, rel=0.1)
    assert sum(stop - start for start, stop in events.splits["train"]) == pytest.approx(0.7 * total, rel=0.1)


def sample_times(tmp_path: Path) -> np.ndarray:
    """The times of the sample's events in the order that `prepare` writes them."""
    from tasks.contract.findings import Findings
    from usecases.recommendation.layouts import find_log
    from usecases.recommendation.prepare import _coded, _ordered  # pyright: ignore[reportPrivateUsage]

    settings = Recommendation(k_core=1)
    coded, _, _ = _coded(find_log(settings, Findings()), settings, Findings())
    return _ordered(coded, settings, Findings()).times


def test_rare_users_and_items_are_removed_until_none_is_left(tmp_path: Path) -> None:
    rows = [*ROWS, ("11", "999", 1), ("11", "101", 2), ("7", "998", 3)]
    log = write(tmp_path / "log.csv", "user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    card, folder = prepared(log, tmp_path / "out", k_core=3)
    assert histories(folder) == HISTORIES
    assert {f["kind"]: f["count"] for f in card["findings"]} == {"sequence with fewer than 3 events": 1, "item with fewer than 3 events": 2}


def test_only_liked_items_count_where_a_rating_is_asked_for(tmp_path: Path) -> None:
    rows = [(u, i, 5 if i != "104" else 2, t) for u, i, t in ROWS]
    log = write(tmp_path / "log.csv", "user,item,rating,time\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in rows))
    _, folder = prepared(log, tmp_path / "out", min_rating=4)
    assert histories(folder) == {user: [i for i in items if i != "104"] for user, items in HISTORIES.items()}


@pytest.mark.parametrize(("repeats", "kept"), [("keep", ["a", "a", "b", "a"]), ("consecutive", ["a", "b", "a"]), ("first", ["a", "b"])])
def test_repeated_events(repeats: str, kept: list[str], tmp_path: Path) -> None:
    log = write(tmp_path / "log.txt", "".join(f"{u} a a b a {' '.join(items)}\n" for u, items in HISTORIES.items()))
    _, folder = prepared(log, tmp_path / "out", repeats=repeats)
    assert histories(folder) == {user: [*kept, *items] for user, items in HISTORIES.items()}


def test_a_long_pause_begins_a_new_session(tmp_path: Path) -> None:
    lines = [
        f"{user},{item},{900_000_000 + 60 * place + (10**7 if place >= len(items) else 0)}\n"
        for user, items in HISTORIES.items()
        for place, item in enumerate([*items, *items])
    ]
    log = write(tmp_path / "log.csv", "user,item,time\n" + "".join(lines))
    card, folder = prepared(log, tmp_path / "out", session_hours=1)
    assert (card["facts"]["users"], card["facts"]["sequences"]) == (4, 8)
    assert histories(folder) == {user: [*items, *items] for user, items in HISTORIES.items()}


def test_ties_in_time_keep_the_order_of_the_file_or_of_items(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "user,item,time\n" + "".join(f"{u},{i},1\n" for u, i, _ in ROWS))
    card, folder = prepared(log, tmp_path / "out")
    assert histories(folder) == HISTORIES
    assert [f["kind"] for f in card["findings"]] == ["event at the same time as the one before"]
    _, other = prepared(log, tmp_path / "other", ties="item")
    assert {user: set(items) for user, items in histories(other).items()} == {user: set(items) for user, items in HISTORIES.items()}
    order = [i for items in histories(other).values() for i in items]
    ranks = {item: order.index(item) for item in TITLES}
    assert len(set(ranks.values())) == 5


def test_where_users_repeat_items_they_are_recommended_again(tmp_path: Path) -> None:
    once, _ = prepared(LAYOUTS[0](tmp_path / "once"), tmp_path / "a")
    log = write(tmp_path / "again.txt", "".join(f"{u} {' '.join(items)} {' '.join(items)}\n" for u, items in HISTORIES.items()))
    again, folder = prepared(log, tmp_path / "b")
    assert once["facts"]["events that repeat an item"] == "0.0%"
    assert again["facts"]["events that repeat an item"] == "50.0%"
    assert read_catalogue(tmp_path / "a" / "assets")["filter_seen"] is True
    assert read_catalogue(folder / "assets")["filter_seen"] is False


def test_fine_tuning_can_be_about_an_action_only(tmp_path: Path) -> None:
    rows = [
        (user, item, 900_000_000 + place, "buy" if place % 2 else "view")
        for user, items in HISTORIES.items()
        for place, item in enumerate([*items, *items])
    ]
    log = write(tmp_path / "log.csv", "user,item,time,action\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    _, folder = prepared(log, tmp_path / "out", focus_action="buy")
    bought = {user: [*items, *items][1::2] for user, items in HISTORIES.items()}
    assert [wanted for _, wanted in asked(folder, "test")] == [items[-1] for items in bought.values()]
    usecase = Recommendation(data=str(log), k_core=1, focus_action="buy", length=8)
    narrow = usecase.examples(folder, "train")
    broad_task = usecase.pretraining()
    assert broad_task is not None
    broad = broad_task.examples(folder, "train")
    assert (narrow.batch(np.arange(len(narrow)))["target"] > 0).sum() < (broad.batch(np.arange(len(broad)))["target"] > 0).sum()


def test_windows_learn_every_step_once(tmp_path: Path) -> None:
    _, folder = prepared("sample", tmp_path / "out")
    usecase = Recommendation(k_core=1, length=7)
    windows = usecase.examples(folder, "train")
    batch = windows.batch(np.arange(len(windows)))
    assert ((batch["target"] > 0) <= (batch["history"] > 0)).all()
    steps = sum(stop - start - 1 for start, stop in Events(folder).splits["train"])
    assert int((batch["target"] > 0).sum()) == steps
    inside = batch["history"][:, :-1] > 0
    assert (batch["target"][:, :-1] == batch["history"][:, 1:])[inside].all()


def test_evaluation_filters_the_history_but_never_the_target(tmp_path: Path) -> None:
    _, folder = prepared(LAYOUTS[0](tmp_path / "data"), tmp_path / "out")
    questions = Recommendation(length=3).examples(folder, "test")
    batch = questions.batch(np.arange(len(questions)))
    allowed = batch["allowed"][np.arange(4), batch["target"] - 1]
    assert allowed.all()
    assert [int(row.sum()) for row in batch["allowed"]] == [2, 1, 3, 2]
    assert batch["before"].tolist() == [3, 4, 2, 3]
