"""Scores of classification and of pretraining, and their figures in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.statistics import Statistics, mean_of
from tasks.contract.types import Predict
from tasks.contract.usecase import Examples
from usecases import charts

BATCH = 256
NEIGHBOURS = 512
BINS = 15
SHOWN_SAMPLES, SAMPLE_SIDE = 12, 128


def scores(predict: Predict, examples: Examples) -> dict[str, float]:
    """accuracy, top5_accuracy (top k with fewer than five classes), macro_f1, nll (nats) and ece over all examples.

    ece is the expected calibration error (Guo 2017) with 15 bins of equal width. nll counts a probability of 0 for the true class as 1e-12.

    Raises:
        DataError: the split is empty.
    """
    import torch
    from torchmetrics.functional import classification as metrics

    predicted, true = _predictions(predict, examples)
    probabilities, label = torch.from_numpy(predicted), torch.from_numpy(true)
    classes = probabilities.shape[1]
    right = probabilities[torch.arange(len(label)), label].clamp(min=1e-12)
    measured = {
        "accuracy": metrics.multiclass_accuracy(probabilities, label, classes, average="micro"),
        "top5_accuracy": metrics.multiclass_accuracy(probabilities, label, classes, average="micro", top_k=min(5, classes)),
        "macro_f1": metrics.multiclass_f1_score(probabilities, label, classes, average="macro"),
        "nll": -right.log().mean(),
        "ece": metrics.multiclass_calibration_error(probabilities, label, classes, n_bins=BINS),
    }
    return {name: float(value) for name, value in measured.items()}


def statistics(predict: Predict, examples: Examples) -> Statistics:
    """Per-example statistics of accuracy."""
    predicted, true = _predictions(predict, examples)
    return Statistics((predicted.argmax(1) == true).astype(np.float64)[:, None], mean_of)


def invariance(predict: Predict, examples: Examples) -> dict[str, float]:
    """Share of images whose perturbed copy is the nearest of up to 512 perturbed images, by the cosine of their embeddings.

    The copy is shifted by a sixteenth of the side and has Gaussian noise of a tenth of the standard deviation. Labels are not used.
    Features that ignore the image reach 1 / min(N, 512).

    Raises:
        DataError: the split is empty.
    """
    _refuse_empty(examples)
    noise = np.random.default_rng(0)
    order = noise.permutation(len(examples))  # splits may be sorted by class
    found = 0
    for start in range(0, len(order), NEIGHBOURS):
        image = examples.batch(order[start : start + NEIGHBOURS])["image"]
        near = _embeddings(predict, image) @ _embeddings(predict, _twin(image, noise)).T
        found += int((near.argmax(axis=1) == np.arange(len(image))).sum())
    return {"invariance": found / len(order)}


def figures(predict: Predict, examples: Examples, assets: Path) -> dict[str, Any]:
    """The section of the report: confusion matrix, scores of each class, calibration, and galleries of predictions.

    Args:
        predict: a predictor.
        examples: the test split.
        assets: the folder with `image.json`.

    Returns:
        `{"title", "blocks"}`.
    """
    probabilities, true = _predictions(predict, examples)
    labels: list[str] = json.loads((assets / "image.json").read_text(encoding="utf-8"))["labels"]
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(confusion, (true, predicted), 1)
    by_confidence = np.argsort(-confidence, kind="stable")
    wrong, right = (by_confidence[(predicted == true)[by_confidence] == hit][:SHOWN_SAMPLES] for hit in (False, True))

    def gallery(title: str, caption: str, rows: np.ndarray) -> dict[str, Any]:
        items = [_sample(examples, int(row), labels[true[row]], labels[predicted[row]], float(confidence[row])) for row in rows]
        return {"kind": "gallery", "title": title, "caption": caption if len(rows) else "There are no such images.", "items": items}

    blocks = [
        charts.confusion(confusion, labels, "images"),
        charts.confused_pairs(confusion, labels, "Images"),
        charts.reliability(confidence, predicted == true),
        charts.classes(confusion, labels, "Images"),
        gallery("Most confident mistakes", "Check these first for wrong labels. True class, then predicted class.", wrong),
        gallery("Most confident correct predictions", "The examples that the model finds most typical.", right),
    ]
    return {"title": "Predictions on the test split", "blocks": blocks}


# -- predictions ---------------------------------------------------------------------------------------------------
def _refuse_empty(examples: Examples) -> None:
    if len(examples) == 0:
        raise DataError(
            "The split to be scored has no images. Add data, or set a larger --usecase.validation_share or --usecase.test_share."
        )


def _predictions(predict: Predict, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, float32 [N, classes], and true classes, int64 [N]."""
    _refuse_empty(examples)
    found, true = [], []
    for start in range(0, len(examples), BATCH):
        batch = examples.batch(np.arange(start, min(start + BATCH, len(examples))))
        found.append(predict({"image": batch["image"]})["probabilities"])
        true.append(batch["label"])
    return np.concatenate(found).astype(np.float32), np.concatenate(true).astype(np.int64)


def _embeddings(predict: Predict, image: np.ndarray) -> np.ndarray:
    """Embeddings of length 1, [B, D]."""
    parts = [predict({"image": image[start : start + BATCH]})["embedding"] for start in range(0, len(image), BATCH)]
    embedding = np.concatenate(parts).astype(np.float32)
    return embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)


def _twin(image: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """Images, uint8 [B, C, H, W], shifted down and to the right with repeated edges, and with Gaussian noise."""
    step = max(1, image.shape[-1] // 16)
    moved = np.pad(image, ((0, 0), (0, 0), (step, 0), (step, 0)), mode="edge")[..., :-step, :-step].astype(np.float32)
    noisy = moved + noise.standard_normal(moved.shape, dtype=np.float32) * (0.1 * moved.std())
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


# -- blocks of the report ------------------------------------------------------------------------------------------
def _sample(examples: Examples, row: int, true: str, predicted: str, confidence: float) -> dict[str, Any]:
    image = examples.batch(np.array([row]))["image"][0]
    classes = f"{true} as {predicted}" if true != predicted else true
    return {
        "image": charts.picture(image[0] if len(image) == 1 else image.transpose(1, 2, 0), SAMPLE_SIDE, "PNG"),
        "alt": f"Test image {row}, {true}, predicted as {predicted}",
        "lines": [classes, f"{confidence:.1%} confidence", f"test image {row}"],
    }
