"""Figures of the report for models of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.types import Predict
from usecases import charts
from usecases.nlp.codec import ClassCodec, EntityCodec
from usecases.nlp.evaluation import entities_of, probabilities_of
from usecases.nlp.explaining import class_weights
from usecases.nlp.scores import entity_scores
from usecases.nlp.sources import Span
from usecases.nlp.texts import Texts
from usecases.nlp.windows import true_labels

SHOWN = 8  # texts in each table or list
EXPLAINED = 6
MAX_CHARACTERS = 300  # of a text in the report


def class_figures(predict: Predict, codec: ClassCodec, folder: Path) -> dict[str, Any]:
    """Figures of a classifier on the test split: confusion, classes, calibration, the most confident mistakes, explanations.

    Args:
        predict: the model.
        codec: its codec.
        folder: the prepared data set.

    Returns:
        The title and the blocks of a section of the report.
    """
    texts = Texts(folder / "test")
    probabilities, target = probabilities_of(predict, codec, texts), true_labels(folder, "test", tuple(codec.labels))
    confidence, predicted, true = probabilities.max(1), probabilities.argmax(1), target.argmax(1)
    hit = target[np.arange(len(predicted)), predicted]
    order = np.argsort(-confidence, kind="stable")
    wrong = order[~hit[order]][:SHOWN]
    explained = [*wrong[: EXPLAINED // 2], *order[hit[order]][: EXPLAINED - len(wrong[: EXPLAINED // 2])]]
    blocks = [charts.reliability(confidence, hit), _mistakes(texts, wrong, codec.labels, target, predicted, confidence)]
    if not codec.multi:
        confusion = np.zeros((len(codec.labels), len(codec.labels)), dtype=np.int64)
        np.add.at(confusion, (true, predicted), 1)
        blocks = [
            charts.confusion(confusion, codec.labels, "texts"),
            charts.confused_pairs(confusion, codec.labels, "Texts"),
            charts.classes(confusion, codec.labels, "Texts"),
            *blocks,
        ]
    why = {
        "kind": "words",
        "title": "Why",
        "caption": "How much each word adds to the probability of the predicted label (SHAP): the stronger the colour the more; "
        "struck through: it lowers the probability.",
        "items": [_why(predict, codec, texts.texts([row])[0], int(predicted[row]), bool(hit[row])) for row in explained],
    }
    return {"title": "Right and wrong on the test split", "blocks": [*blocks, why]}


def _mistakes(
    texts: Texts, rows: np.ndarray, labels: list[str], target: np.ndarray, predicted: np.ndarray, confidence: np.ndarray
) -> dict[str, Any]:
    found = [
        [
            _shortened(texts.texts([row])[0]),
            ", ".join(labels[i] for i in np.flatnonzero(target[row])),
            labels[predicted[row]],
            f"{confidence[row]:.1%}",
        ]
        for row in rows
    ]
    caption = "Look for wrong labels here first." if len(found) else "There are none."
    columns = ["Text", "Label", "Predicted", "Confidence"]
    return {"kind": "table", "title": "Most confident mistakes", "caption": caption, "columns": columns, "rows": found}


def _why(predict: Predict, codec: ClassCodec, text: str, label: int, hit: bool) -> dict[str, Any]:
    text = text[:MAX_CHARACTERS]
    places, weights = class_weights(predict, codec, text, label)
    strongest = max(float(np.abs(weights).max(initial=0)), 1e-9)
    return {
        "title": f"{codec.labels[label]}, {'right' if hit else 'wrong'}",
        "text": text,
        "marks": [{"start": int(s), "end": int(e), "weight": float(w) / strongest} for (s, e), w in zip(places, weights, strict=True)],
    }


def entity_figures(predict: Predict, codec: EntityCodec, folder: Path) -> dict[str, Any]:
    """Figures of a tagger on the test split: scores by entity type, false negatives and false positives, texts with their entities.

    Args:
        predict: the model.
        codec: its codec.
        folder: the prepared data set.

    Returns:
        The title and the blocks of a section of the report.
    """
    texts = Texts(folder / "test")
    found, target = entities_of(predict, codec, texts), texts.spans(range(len(texts)))
    spans = [[span for span, _ in one] for one in found]
    types = {
        "kind": "table",
        "title": "Scores by entity type",
        "caption": "Strict: an entity is correct if its start, end and type are correct.",
        "columns": ["Type", "Precision", "Recall", "F1", "Entities"],
        "rows": [_type_row(label, spans, target) for label in codec.labels],
    }
    wrong = [i for i in range(len(spans)) if set(spans[i]) != set(target[i])][:SHOWN]
    return {
        "title": "Found and missed on the test split",
        "blocks": [types, _errors(texts, wrong, spans, target), _found(texts, found)],
    }


def _type_row(label: str, found: list[list[Span]], target: list[list[Span]]) -> list[object]:
    predicted, true = ([[span for span in one if span.label == label] for one in spans] for spans in (found, target))
    scores = entity_scores(predicted, true)
    return [label, *(f"{scores[f'entity_{name}']:.3f}" for name in ("precision", "recall", "f1")), sum(map(len, true))]


def _errors(texts: Texts, rows: list[int], found: list[list[Span]], target: list[list[Span]]) -> dict[str, Any]:
    listed = []
    for row in rows:
        text = texts.texts([row])[0]
        missed, wrong = (_quoted(text, set(a) - set(b)) for a, b in ((target[row], found[row]), (found[row], target[row])))
        listed.append([_shortened(text), missed, wrong])
    columns = ["Text", "Missed (false negatives)", "Wrong (false positives)"]
    return {"kind": "table", "title": "Mistakes", "caption": "" if listed else "There are none.", "columns": columns, "rows": listed}


def _found(texts: Texts, found: list[list[tuple[Span, float]]]) -> dict[str, Any]:
    rows = [i for i, entities in enumerate(found) if entities and len(texts.texts([i])[0]) <= MAX_CHARACTERS][:SHOWN]
    items = [
        {
            "title": ", ".join(sorted({span.label for span, _ in found[row]})),
            "text": texts.texts([row])[0],
            "marks": [{"start": s.start, "end": s.end, "weight": probability, "label": s.label} for s, probability in found[row]],
        }
        for row in rows
    ]
    return {"kind": "words", "title": "Found", "caption": "The stronger the colour, the higher the probability.", "items": items}


def _quoted(text: str, spans: set[Span]) -> str:
    return "; ".join(f"{text[span.start : span.end]} ({span.label})" for span in sorted(spans, key=lambda span: span.start))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} …"
