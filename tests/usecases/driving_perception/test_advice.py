"""The rules of advice, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from usecases.driving_perception.advice import Thing, advise, path

CLASSES = ["sky", "Road", "Lane_Marking", "Pedestrian", "building"]


def street() -> np.ndarray:
    """Sky above, road below."""
    mask = np.zeros((100, 200), dtype=np.int64)
    mask[50:] = 1
    mask[50:, 98:102] = 2
    return mask


def test_on_a_free_road_one_keeps_on() -> None:
    found = advise(street(), CLASSES, [], 0.0, trusted=True)
    assert found.action == "keep" and not found.reasons and found.drivable == 1 and found.nearest is None


@pytest.mark.parametrize(("row", "action"), [(99, "stop"), (70, "slow"), (56, "keep")])
def test_the_nearer_someone_is_the_graver(row: int, action: str) -> None:
    mask = street()
    mask[row - 5 : row, 96:104] = 3
    found = advise(mask, CLASSES, None, None, trusted=True)
    assert found.action == action and (action == "keep" or found.reasons == ("Pedestrian is in the way",))
    assert found.nearest == pytest.approx((row - 50) / 50, abs=0.03)


def test_people_next_to_the_path_are_not_in_the_way() -> None:
    mask = street()
    mask[60:90, 2:12] = 3
    assert advise(mask, CLASSES, None, None, trusted=True).action == "keep"


@pytest.mark.parametrize(
    ("things", "steering", "trusted", "action", "reason"),
    [
        ([Thing("Car", (0.45, 0.6, 0.55, 0.95))], None, True, "stop", "Car is in the way"),
        ([Thing("Car", (0.0, 0.6, 0.1, 0.7))], None, True, "keep", None),
        ([Thing("tree", (0.45, 0.6, 0.55, 0.95))], None, True, "keep", None),
        ([Thing("traffic light red", (0.7, 0.1, 0.72, 0.2))], None, True, "stop", "a light is red"),
        ([], -0.8, True, "slow", "the bend to the left is sharp"),
        ([], 0.1, False, "slow", "the answer is not reliable"),
        (None, None, True, "keep", None),
    ],
)
def test_every_rule_has_its_reason(
    things: list[Thing] | None, steering: float | None, trusted: bool, action: str, reason: str | None
) -> None:
    found = advise(None, (), things, steering, trusted)
    assert found.action == action and found.reasons == ((reason,) if reason else ())


def test_where_there_is_no_road_one_stops_and_the_gravest_reason_comes_first() -> None:
    mask = street()
    mask[50:] = 4
    found = advise(mask, CLASSES, None, 0.9, trusted=True)
    assert found.action == "stop" and found.reasons == ("only 0% of the way ahead is road", "the bend to the right is sharp")


def test_classes_that_name_no_road_are_not_judged_by_it() -> None:
    assert advise(street(), ["sky", "floor", "line", "x", "y"], None, None, trusted=True).drivable is None


def test_the_path_bends_where_it_is_steered_to() -> None:
    left, right = (np.nonzero(path(100, 200, steering)[55])[0].mean() for steering in (-1.0, 1.0))
    assert left < 80 and right > 120 and not path(100, 200, 0.0)[:50].any()
