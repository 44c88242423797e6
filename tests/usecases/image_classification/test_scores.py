from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.contract.errors import DataError
from tasks.contract.types import Arrays
from usecases.image_classification.scores import figures, invariance, scores


class Rows:
    """Images whose first pixel is their row, so that a table can stand for a network."""

    def __init__(self, label: list[int], channels: int = 1, side: int = 16) -> None:
        self.label = np.array(label, dtype=np.int64)
        self.image = np.random.default_rng(0).integers(0, 256, (len(label), channels, side, side), dtype=np.uint8)
        self.image[:, 0, 0, 0] = np.arange(len(label)) % 256
        self.image[:, 0, 0, 1] = np.arange(len(label)) // 256

    def __len__(self) -> int:
        return len(self.label)

    def batch(self, indices: np.ndarray) -> Arrays:
        return {"image": self.image[indices], "label": self.label[indices]}


class Table:
    def __init__(self, probabilities: list[list[float]]) -> None:
        self.rows = np.array(probabilities, dtype=np.float32)
        self.batches: list[int] = []

    def __call__(self, batch: Arrays) -> Arrays:
        assert set(batch) == {"image"}, "a served graph knows no labels"
        image = batch["image"].astype(int)
        self.batches.append(len(image))
        return {"probabilities": self.rows[image[:, 0, 0, 0] + 256 * image[:, 0, 0, 1]]}


FOUR = [[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.2, 0.3, 0.5]]
TRUE = [0, 1, 1, 2]


def test_scores_equal_those_worked_out_by_hand() -> None:
    found = scores(Table(FOUR), Rows(TRUE))
    assert set(found) == {"accuracy", "top5_accuracy", "macro_f1", "nll", "ece"}
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["top5_accuracy"] == pytest.approx(1)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["nll"] == pytest.approx(-(math.log(0.9) + math.log(0.3) + math.log(0.7) + math.log(0.5)) / 4)
    # four bins of one example each: |1 - 0.9|, |0 - 0.6|, |1 - 0.7|, |1 - 0.5|
    assert found["ece"] == pytest.approx((0.1 + 0.6 + 0.3 + 0.5) / 4, abs=1e-6)


def test_top5_counts_the_five_likeliest() -> None:
    probabilities = [[0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]] * 2
    found = scores(Table(probabilities), Rows([4, 5]))
    assert (found["accuracy"], found["top5_accuracy"]) == (0, 0.5)


def test_large_splits_go_through_in_batches() -> None:
    table = Table([[0.8, 0.2]] * 600)
    assert scores(table, Rows([0] * 600))["accuracy"] == 1
    assert table.batches == [256, 256, 88]


def test_a_surely_wrong_answer_costs_a_finite_amount() -> None:
    assert scores(Table([[1.0, 0.0]]), Rows([1]))["nll"] == pytest.approx(-math.log(1e-12), rel=1e-3)


def test_an_empty_split_is_told_in_words() -> None:
    with pytest.raises(DataError, match="has no images"):
        scores(Table([]), Rows([]))


def test_invariance_tells_features_of_the_image_from_none() -> None:
    rows = Rows([0] * 40)
    rows.image = np.kron(rows.image[:, :, :4, :4], np.ones((4, 4), dtype=np.uint8))  # smooth enough to survive a pixel's shift

    def pooled(batch: Arrays) -> Arrays:
        centred = batch["image"].astype(np.float32) - 127
        return {"embedding": centred.reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(-1, 16)}

    def blind(batch: Arrays) -> Arrays:
        return {"embedding": np.ones((len(batch["image"]), 8), dtype=np.float32)}

    assert invariance(pooled, rows)["invariance"] > 0.9
    assert invariance(blind, rows)["invariance"] == pytest.approx(1 / 40)
    assert invariance(pooled, rows) == invariance(pooled, rows)


def labelled(folder: Path, labels: list[str]) -> Path:
    (folder / "image.json").write_text(json.dumps({"labels": labels}))
    return folder


def test_figures_show_what_happened(tmp_path: Path) -> None:
    shown = figures(Table(FOUR), Rows(TRUE, channels=3), labelled(tmp_path, ["a", "b", "c"]))
    blocks = {block["title"]: block for block in shown["blocks"]}
    assert json.loads(json.dumps(shown)) == shown
    assert blocks["Confusion matrix"]["values"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert blocks["Most confused pairs"]["rows"] == [["b", "a", 1, "50.0%"]]
    assert blocks["Class by class"]["rows"][0] == ["a", "0.500", "1.000", "0.667", 1]
    assert [item["lines"][0] for item in blocks["Most confident mistakes"]["items"]] == ["b as a"]
    assert blocks["Most confident correct predictions"]["items"][0]["lines"][:2] == ["a", "90.0% confidence"]
    picture = blocks["Most confident correct predictions"]["items"][0]["image"].removeprefix("data:image/png;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (16, 16)


def test_figures_of_many_classes_keep_to_the_most_confused(tmp_path: Path) -> None:
    classes = 200
    true = np.arange(400) % classes
    said = np.where(true == 150, 7, true)  # class 150 is always taken for class 7
    probabilities = np.full((400, classes), 1e-4)
    probabilities[np.arange(400), said] = 0.98
    shown = figures(Table(probabilities.tolist()), Rows(true.tolist()), labelled(tmp_path, [f"class {i}" for i in range(classes)]))
    blocks = {block["title"]: block for block in shown["blocks"]}
    assert len(blocks["Confusion matrix"]["labels"]) == 20
    assert {"class 7", "class 150"} <= set(blocks["Confusion matrix"]["labels"])
    assert blocks["Most confused pairs"]["rows"] == [["class 150", "class 7", 2, "100.0%"]]
    assert len(blocks["Class by class"]["rows"]) == classes
    assert len(blocks["Most confident correct predictions"]["items"]) == 12
