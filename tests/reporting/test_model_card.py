"""The model card answers what a reader asks: for what, from what, how good, where weak."""

from __future__ import annotations

from tasks.contract.artifacts import Interval
from tasks.reporting.model_card import UNKNOWN_LICENCE, model_card
from tests.reporting.conftest import evaluated

CARD = {
    "layout": "a folder for each class",
    "sizes": {"train": 90, "validation": 10, "test": 12},
    "labels": ["cat", "dog"],
    "counts": {"train": {"cat": 80, "dog": 10}},
    "findings": [{"kind": "broken image", "count": 3, "examples": ["a.png"], "action": "left out"}],
}


def test_it_has_use_data_scores_by_slice_limits_and_settings() -> None:
    chosen = evaluated("int8", 0.9, 0.5, 1.0)
    chosen = chosen.model_copy(
        update={
            "model": chosen.model.model_copy(update={"role": "compressed"}),
            "scores": {"accuracy": 0.9, "accuracy/night": 0.7, "accuracy/day": 0.95},
            "test_gain": Interval(measured=-0.002, low=-0.01, high=0.005),
        }
    )
    written = model_card(chosen, "The fastest.", CARD, {"usecase": {"data": "photos", "width": 32}, "fit": {"epochs": 3}})
    for expected in (
        "## Intended use",
        "It predicts cat, dog; anything else is predicted as one of these.",
        "photos: a folder for each class (90 train, 10 validation, 12 test).",
        f"Licence: {UNKNOWN_LICENCE}",
        "- broken image: 3 (left out)",
        "| accuracy/night | – | 0.7000 |",
        "test (12 examples)",
        "−0.0100 to +0.0050",
        "Weakest slice on test: accuracy/night with 0.7000.",
        "Rarest class in training: dog with 10 examples of 90.",
        "It is compressed",
        "- fit: epochs 3",
    ):
        assert expected in written
    assert "ms" not in written.split(), "what another measurement would change is not part of a version"


def test_the_licence_of_data_is_reported_where_it_is_known() -> None:
    assert "Licence: CC-BY-4.0" in model_card(evaluated("fp32", 0.9, 0.5, 1.0), "", CARD | {"licence": "CC-BY-4.0"}, {})
