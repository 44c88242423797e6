"""The evaluator against scikit-learn, and against cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tasks.contract.errors import DataError
from usecases.nlp.scores import classification_scores, entity_scores
from usecases.nlp.sources import Span

LABELS = ["a", "b", "c", "d", "never"]


def drawn(multi: bool) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and right labels of 300 texts, of which the last label is neither right nor likely."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(300, 5))
    scores[:, 4] = -9
    right = np.zeros((300, 5), dtype=bool)
    if multi:
        right[:, :4] = random.random((300, 4)) < 0.3
        return 1 / (1 + np.exp(-scores - right)), right
    right[np.arange(300), random.choice(4, 300, p=[0.6, 0.2, 0.1, 0.1])] = True
    raised = np.exp(scores + right)
    return raised / raised.sum(1, keepdims=True), right


def test_one_label_as_scikit_learn_has_it() -> None:
    probabilities, right = drawn(multi=False)
    found = classification_scores(probabilities, right, False, LABELS)
    true, said = right.argmax(1), probabilities.argmax(1)
    assert found["accuracy"] == pytest.approx(accuracy_score(true, said))
    assert found["macro_f1"] == pytest.approx(f1_score(true, said, average="macro"))
    assert found["micro_f1"] == pytest.approx(found["accuracy"])
    each = [f1_score(true == label, said == label) for label in range(4)]
    assert [found[f"f1/{label}"] for label in "abcd"] == pytest.approx(each)
    assert "f1/never" not in found


def test_several_labels_as_scikit_learn_has_it() -> None:
    probabilities, right = drawn(multi=True)
    found = classification_scores(probabilities, right, True, LABELS)
    said = probabilities >= 0.5
    assert found["accuracy"] == pytest.approx(accuracy_score(right, said))
    assert found["micro_f1"] == pytest.approx(f1_score(right, said, average="micro"))
    assert found["macro_f1"] == pytest.approx(f1_score(right[:, :4], said[:, :4], average="macro"))


def test_calibration_by_hand() -> None:
    """Three texts at 0.9 of which one is right, one at 0.6 that is: (3 * |0.9 - 1/3| + |0.6 - 1|) / 4."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
    right = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], dtype=bool)
    assert classification_scores(probabilities, right, False, ["x", "y"])["ece"] == pytest.approx((3 * (0.9 - 1 / 3) + 0.4) / 4)
    certain = classification_scores(right.astype(float), right, False, ["x", "y"])
    assert certain["ece"] == 0 and certain["accuracy"] == 1


def test_calibration_agrees_with_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    probabilities, right = drawn(multi=False)
    expected = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(right.argmax(1)), 5, n_bins=15)
    assert classification_scores(probabilities, right, False, LABELS)["ece"] == pytest.approx(float(expected), abs=1e-6)


def test_a_text_whose_label_is_unknown_counts_as_wrong() -> None:
    found = classification_scores(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[True, False], [False, False]]), False, ["x", "y"])
    assert found["accuracy"] == 0.5
    assert found["f1/x"] == pytest.approx(2 / 3)


A, B = "place", "person"
RIGHT = [[Span(0, 5, A), Span(6, 9, B)], [Span(0, 3, A)], []]


def test_entities_by_hand() -> None:
    """Found: one exact, one too long, one of the wrong type, one in a text without any."""
    found = [[Span(0, 5, A), Span(6, 10, B)], [Span(0, 3, B)], [Span(1, 2, A)]]
    scores = entity_scores(found, RIGHT)
    assert scores["entity_precision"] == pytest.approx(1 / 4)
    assert scores["entity_recall"] == pytest.approx(1 / 3)
    assert scores["entity_f1"] == pytest.approx(2 / 7)
    assert scores["entity_f1/place"] == pytest.approx(2 / 4)
    assert scores["entity_f1/person"] == 0
    assert scores["entity_f1_overlap"] == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))


def test_perfect_entities_and_none_at_all() -> None:
    assert entity_scores(RIGHT, RIGHT)["entity_f1"] == entity_scores(RIGHT, RIGHT)["entity_f1_overlap"] == 1
    assert entity_scores([[], [], []], RIGHT)["entity_f1"] == 0
    assert entity_scores([[], [], []], [[], [], []])["entity_f1"] == 0


def test_touching_is_no_overlap_and_places_count_per_text() -> None:
    assert entity_scores([[Span(5, 7, A)]], [[Span(0, 5, A)]])["entity_f1_overlap"] == 0
    assert entity_scores([[Span(0, 5, A)], []], [[], [Span(0, 5, A)]])["entity_f1"] == 0


def test_a_split_without_texts_is_an_error() -> None:
    with pytest.raises(DataError, match="no text"):
        classification_scores(np.zeros((0, 2)), np.zeros((0, 2), bool), False, ["x", "y"])
    with pytest.raises(DataError, match="no text"):
        entity_scores([], [])
