"""Classification of crops of signs and traffic lights; confusions of red with green are counted as a score of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from tasks.contract.blocks import AnswerBlock, probability_bars
from tasks.contract.types import Arrays, Predict, Say
from usecases import charts
from usecases.driving_perception.frames import Frame, Source
from usecases.driving_perception.heads.head import Evaluator, FrameInfo, Head, Plan, Predictions, Reading
from usecases.driving_perception.pictures import SHOWN, WIDE
from usecases.driving_perception.scenes import NOTHING, StoredScenes
from usecases.driving_perception.words import words_of
from usecases.reading.labels import by_number

if TYPE_CHECKING:
    from torch import Tensor

    from usecases.driving_perception import DrivingPerception
    from usecases.driving_perception.heads.classifier import PooledClassifier
    from usecases.driving_perception.network import RoadNetwork

SMOOTHING = 0.1  # label smoothing (Szegedy 2016)
TOP = 3  # classes with the highest probabilities that an answer lists
MIN_CONFIDENCE = 0.5  # below it an answer is doubted
MAX_GALLERY = 8  # images in the gallery of attributions


class SignalHead(Head):
    """The class of the sign or light that a crop shows."""

    name: ClassVar[str] = "signal"
    outputs: ClassVar[tuple[str, ...]] = ("probabilities",)
    arrays: ClassVar[tuple[str, ...]] = ("signal",)
    metric: ClassVar[str] = "macro_recall"
    scenario_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "red_as_green")
    crops: ClassVar[bool] = True

    # -- labels ---------------------------------------------------------------------------------------------------
    def label(self, frame: Frame, picture: Image.Image, reading: Reading) -> str | None:
        return frame.signal

    def stratum(self, label: str) -> str:
        return label

    def plan(self, settings: DrivingPerception, frames: Sequence[FrameInfo], sources: Sequence[Source]) -> dict[str, Any]:
        """The classes.

        Args:
            settings: of the use case.
            frames: all frames with a label for this head.
            sources: all sources.

        Returns:
            `{"signals": [name]}`.
        """
        return {"signals": sorted({one.labels[self.name] for one in frames if one.labels[self.name]}, key=by_number)}

    def write(self, folder: Path, frames: Sequence[FrameInfo], plan: Plan, settings: DrivingPerception, say: Say) -> None:
        """Write signal int64 [N], the number of the class, or -1 without a label.

        Args:
            folder: of the split.
            frames: of the split.
            plan: of all heads.
            settings: of the use case.
            say: not used.
        """
        number = {kind: place for place, kind in enumerate(plan.parts[self.name]["signals"])}
        np.save(folder / "signal.npy", np.array([number.get(one.labels.get(self.name, ""), NOTHING) for one in frames], dtype=np.int64))

    def names(self, card: dict[str, Any]) -> list[str]:
        return card["signals"]

    def facts(self, card: dict[str, Any], frames: Sequence[FrameInfo]) -> dict[str, str]:
        shown = Counter(one.labels[self.name] for one in frames if one.labels[self.name])
        return {"signs and lights": ", ".join(f"{kind} {count:,}" for kind, count in shown.most_common())}

    # -- network --------------------------------------------------------------------------------------------------
    def weight(self, settings: DrivingPerception) -> float:
        return settings.signal_weight

    def network(self, features: int, card: dict[str, Any], settings: DrivingPerception) -> PooledClassifier:
        from usecases.driving_perception.heads.classifier import PooledClassifier

        return PooledClassifier(features, len(card["signals"]), settings.dropout)

    def are_crops(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["signal"] != NOTHING

    def loss(self, network: PooledClassifier, predictions: Predictions, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        from torch.nn import functional as F

        (logits,) = predictions
        each = F.cross_entropy(logits, batch["signal"], ignore_index=NOTHING, reduction="sum", label_smoothing=SMOOTHING)
        return each / (batch["signal"] != NOTHING).sum().clamp(min=1)

    def distance(self, predictions: Predictions, teacher: Predictions, temperature: float) -> Tensor:
        """Cross-entropy with the teacher's softened classes (Hinton 2015).

        Args:
            predictions: of the student.
            teacher: the teacher's predictions for the same frames.
            temperature: that logits are divided by.

        Returns:
            A scalar.
        """
        import torch
        from torch.nn import functional as F

        wanted = torch.softmax(teacher[0] / temperature, 1)
        return F.cross_entropy(predictions[0] / temperature, wanted) * temperature**2

    def answers(self, network: PooledClassifier, predictions: Predictions) -> Predictions:
        """Probabilities of the classes, float32 [N, C]."""
        import torch

        return (torch.softmax(predictions[0] / network.temperature, 1),)

    def calibrate(self, network: PooledClassifier, batches: Iterable[tuple[Arrays, Predictions]]) -> None:
        """Temperature scaling (Guo 2017)."""
        from usecases.calibration import best_temperature

        logits, right = [], []
        for batch, (found,) in batches:
            logits.append(found.numpy())
            right.append(batch["signal"][:, None] == np.arange(found.shape[1]))
        network.temperature.fill_(best_temperature(np.concatenate(logits), np.concatenate(right)))

    # -- quality --------------------------------------------------------------------------------------------------
    def evaluator(self, scenes: StoredScenes, card: dict[str, Any]) -> SignalEvaluator:
        return SignalEvaluator(card["signals"])

    def figures(self, evaluator: SignalEvaluator, predict: Predict, scenes: StoredScenes, card: dict[str, Any]) -> list[dict[str, Any]]:
        counts, kinds = evaluator.confusion(), evaluator.kinds
        return [charts.classes(counts, kinds, "Images"), charts.confused_pairs(counts, kinds, "Images"), _mistaken(evaluator, scenes)]

    def evidence(self, network: PooledClassifier, predictions: Predictions, number: int) -> Tensor:
        """The logit of a class.

        Args:
            network: of this head.
            predictions: its predictions for the images.
            number: of the class.

        Returns:
            [N].
        """
        return predictions[0][:, number]

    def attributions(self, network: RoadNetwork, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
        from usecases.driving_perception.heat import class_gallery

        kinds = scenes.arrays["signal"][:]
        rows = {number: np.flatnonzero(kinds == number).tolist() for number in range(len(card["signals"]))}
        shown = dict([(number, found) for number, found in rows.items() if found][:MAX_GALLERY])
        caption = "HiResCAM: red where features increase the class's score."
        return class_gallery(network, self, scenes, card["signals"], shown, "Evidence for signs and lights", caption)

    # -- service --------------------------------------------------------------------------------------------------
    def answer(self, outputs: Arrays, picture: Image.Image, card: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The class with the highest probability, and the three highest.

        Args:
            outputs: of the graph, without a batch axis.
            picture: the image of the request.
            card: `assets/scene.json`.

        Returns:
            `{"signal", "signal_probability", "signals": {class: probability}}`, and reasons to doubt it.
        """
        probabilities = outputs["probabilities"]
        likeliest = np.argsort(-probabilities, kind="stable")[:TOP]
        named = {card["signals"][number]: round(float(probabilities[number]), 4) for number in likeliest}
        kind, probability = next(iter(named.items()))
        doubts = [f"the confidence of the sign or light is low: {kind} with {probability:.0%}"] if probability < MIN_CONFIDENCE else []
        return {"signal": kind, "signal_probability": probability, "signals": named}, doubts

    def blocks(self, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
        """The signs or lights with the highest probabilities."""
        return [probability_bars(answer["signal"], answer["signals"].items())]

    def advice(self, outputs: Arrays, answer: dict[str, Any], picture: Image.Image, card: dict[str, Any]) -> dict[str, Any]:
        return {"signal": answer["signal"]}

    def caption(self, answer: dict[str, Any]) -> str:
        return f"{answer['signal']} {answer['signal_probability']:.0%}"


class SignalEvaluator(Evaluator):
    """True classes and predicted probabilities of a split."""

    def __init__(self, kinds: Sequence[str]) -> None:
        super().__init__()
        self.kinds = list(kinds)
        self.true: list[int] = []
        self.probabilities: list[np.ndarray] = []

    def add(self, row: int, truth: Arrays, answers: Arrays) -> None:
        self.rows.append(row)
        self.true.append(int(truth["signal"]))
        self.probabilities.append(answers["probabilities"])

    def confusion(self) -> np.ndarray:
        """Images by true and predicted class, int64 [C, C]."""
        counts = np.zeros((len(self.kinds), len(self.kinds)), dtype=np.int64)
        np.add.at(counts, (self.true, np.stack(self.probabilities).argmax(1)), 1)
        return counts

    def counts(self) -> np.ndarray:
        """The true class of each image if it was predicted, and the true class, one-hot each, [N, 2 C]."""
        true = np.eye(len(self.kinds))[self.true]
        hit = np.stack(self.probabilities).argmax(1) == np.array(self.true)
        return np.concatenate([true * hit[:, None], true], axis=1)

    def value(self, means: np.ndarray) -> np.ndarray:
        """macro_recall"""
        hits, support = np.split(means, 2, axis=-1)
        recall = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0)
        return recall.sum(-1) / np.maximum((support > 0).sum(-1), 1)

    def scores(self) -> dict[str, float]:
        """macro_recall, accuracy, recall/<class>, and if names of classes contain red and green, red_as_green: images of red predicted as green."""
        counts = self.confusion()
        there = counts.sum(1) > 0
        recall = np.diag(counts) / np.maximum(counts.sum(1), 1)
        measured = {
            "macro_recall": float(recall[there].mean()),
            "accuracy": float(np.trace(counts) / counts.sum()),
            **{f"recall/{kind}": float(value) for kind, value, known in zip(self.kinds, recall, there, strict=True) if known},
        }
        red, green = ([number for number, kind in enumerate(self.kinds) if colour in words_of(kind)] for colour in ("red", "green"))
        if red and green:
            measured["red_as_green"] = float(counts[np.ix_(red, green)].sum())
        return measured


def _mistaken(evaluator: SignalEvaluator, scenes: StoredScenes) -> dict[str, Any]:
    """A gallery of mistakes, the most confident first."""
    names, items = scenes.names(), []
    probabilities, true = np.stack(evaluator.probabilities), np.array(evaluator.true)
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != true)
    for place in wrong[np.argsort(-probabilities.max(1)[wrong], kind="stable")][: 2 * SHOWN]:
        name, classes = names[evaluator.rows[place]], f"{evaluator.kinds[true[place]]} as {evaluator.kinds[predicted[place]]}"
        image = charts.picture(scenes.batch(np.array([evaluator.rows[place]]))["image"][0].transpose(1, 2, 0), WIDE, "PNG")
        items.append(
            {"image": image, "alt": f"{name}: {classes}", "lines": [classes, f"{probabilities[place].max():.0%} confidence", name]}
        )
    caption = "The most confident first: check these for wrong labels." if items else "There are no mistakes."
    return {"kind": "gallery", "title": "Mistakes of signs and lights", "caption": caption, "items": items}
