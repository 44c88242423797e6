"""Object detection: boxes around objects, with classes and confidences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from tasks.contract.blocks import AnswerBlock, Note, Overlay, Region
from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from tasks.contract.types import Arrays, Predict, Say
from usecases.driving_perception.frames import Box, Frame, Source
from usecases.driving_perception.heads.boxes.maps import LIKELY, found_boxes, overlaps
from usecases.driving_perception.heads.head import FrameInfo, Head, Plan, Predictions, Reading
from usecases.driving_perception.masks import colours
from usecases.driving_perception.pictures import hexadecimal
from usecases.driving_perception.scenes import NOTHING, UNCOUNTED, StoredScenes

if TYPE_CHECKING:
    from torch import Tensor

    from usecases.driving_perception import DrivingPerception
    from usecases.driving_perception.heads.boxes.network import BoxNetwork
    from usecases.driving_perception.heads.boxes.scores import BoxEvaluator
    from usecases.driving_perception.network import RoadNetwork
    from usecases.driving_perception.window import View

MIN_SIDE = 1.0  # pixels of the image: boxes that are less wide or high are left out
EXTENT_WEIGHT = 2.0  # weight of the box loss relative to the centre loss, which corresponds to TTFNet's 5 to 1
MATCHED = 0.5  # intersection over union with a true box from which a predicted one is correct
MIN_BOXES = 20  # correct and wrong ones each, to calibrate the confidence
OBJECTS = 4  # classes in the gallery of attributions


class BoxHead(Head):
    """Boxes around objects, with the probability that each is correct."""

    name: ClassVar[str] = "boxes"
    outputs: ClassVar[tuple[str, ...]] = ("centres", "extents")
    arrays: ClassVar[tuple[str, ...]] = ("boxes", "boxed")
    metric: ClassVar[str] = "map"
    scenario_metrics: ClassVar[tuple[str, ...]] = ("map50",)
    dense: ClassVar[bool] = True

    # -- labels ---------------------------------------------------------------------------------------------------
    def label(self, frame: Frame, picture: Image.Image, reading: Reading) -> tuple[Box, ...] | None:
        """The boxes of a frame, clipped to its image.

        Args:
            frame: as its reader found it.
            picture: its decoded image.
            reading: where to note boxes that are clipped or left out.

        Returns:
            The boxes; None for a frame without labels.
        """
        return tuple(_within(frame, *picture.size, reading.findings)) if frame.boxes else None

    def plan(self, settings: DrivingPerception, frames: Sequence[FrameInfo], sources: Sequence[Source]) -> dict[str, Any]:
        """The classes and their colours.

        Args:
            settings: of the use case.
            frames: all frames with boxes.
            sources: all sources.

        Returns:
            `{"objects": [name], "object_colours": [[r, g, b]]}`.

        Raises:
            DataError: there is no box.
        """
        objects = sorted({box.label for one in frames for box in one.labels[self.name] if box.label})
        if not objects:
            raise DataError(
                "The labels contain no box, so that the head boxes cannot be trained. Check the labels, or leave boxes out of --usecase.heads."
            )
        return {"objects": objects, "object_colours": [list(colour) for colour in colours(len(objects))]}

    def write(self, folder: Path, frames: Sequence[FrameInfo], plan: Plan, settings: DrivingPerception, say: Say) -> None:
        """Write boxes float32 [N, M, 5], label and sides in pixels of the network's image, and boxed bool [N], whether a frame has labels.

        Args:
            folder: of the split.
            frames: of the split.
            plan: of all heads.
            settings: of the use case.
            say: not used.
        """
        objects = plan.parts[self.name]["objects"]
        most = max([1, *(len(one.labels.get(self.name, ())) for one in frames)])
        table = np.full((len(frames), most, 5), NOTHING, dtype=np.float32)
        for row, one in enumerate(frames):
            across, down = plan.width / one.size[0], plan.height / one.size[1]
            for place, box in enumerate(one.labels.get(self.name, ())):
                label = objects.index(box.label) if box.label else UNCOUNTED
                table[row, place] = [label, *_sides(box.scaled(across, down))]
        np.save(folder / "boxes.npy", table)
        np.save(folder / "boxed.npy", np.array([self.name in one.labels for one in frames]))

    def names(self, card: dict[str, Any]) -> list[str]:
        return card["objects"]

    def facts(self, card: dict[str, Any], frames: Sequence[FrameInfo]) -> dict[str, str]:
        found = Counter(box.label for one in frames for box in one.labels[self.name] if box.label)
        return {"boxes": ", ".join(f"{name} {count:,}" for name, count in found.most_common())}

    # -- network --------------------------------------------------------------------------------------------------
    def weight(self, settings: DrivingPerception) -> float:
        return settings.boxes_weight

    def network(self, features: int, card: dict[str, Any], settings: DrivingPerception) -> BoxNetwork:
        from usecases.driving_perception.heads.boxes.network import BoxNetwork

        return BoxNetwork(features, len(card["objects"]))

    def augment(self, batch: dict[str, Tensor], view: View) -> dict[str, Tensor]:
        from usecases.driving_perception.heads.boxes.network import cut_boxes

        return {"boxes": cut_boxes(batch["boxes"], view)}

    def loss(self, network: BoxNetwork, predictions: Predictions, batch: dict[str, Tensor], settings: DrivingPerception) -> Tensor:
        from usecases.driving_perception.heads.boxes.network import centre_loss, corners, generalised_overlap, targets

        centres, sides = predictions
        wanted = targets(batch["boxes"], centres.shape[1], (centres.shape[2], centres.shape[3]))
        known = batch["boxed"][:, None, None]
        count = (wanted.heat == 1).sum().clamp(min=1)
        heat = centre_loss(centres, wanted.heat, known & ~wanted.uncounted) / count
        weight = wanted.weight * known
        extent = ((1 - generalised_overlap(corners(sides), wanted.box)) * weight).sum() / weight.sum().clamp(min=1)
        return heat + EXTENT_WEIGHT * extent

    def distance(self, predictions: Predictions, teacher: Predictions, temperature: float) -> Tensor:
        """Soft targets from the teacher's centre heatmaps, and its boxes weighted by their confidence.

        Args:
            predictions: of the student.
            teacher: the teacher's predictions for the same frames.
            temperature: that logits of centres are divided by.

        Returns:
            A scalar.
        """
        import torch
        from torch.nn import functional as F

        from usecases.driving_perception.heads.boxes.network import corners, generalised_overlap

        (centres, sides), (wanted, box) = predictions, teacher
        heat = torch.sigmoid(wanted / temperature)
        confidence = torch.sigmoid(wanted).amax(1)
        off = (torch.sigmoid(centres / temperature) - heat).abs()
        near = F.binary_cross_entropy_with_logits(centres / temperature, heat, reduction="none") * off.detach().square()
        extent = ((1 - generalised_overlap(corners(sides), corners(box))) * confidence).sum() / confidence.sum().clamp(min=1)
        return near.sum() * temperature**2 / heat.sum().clamp(min=1) + EXTENT_WEIGHT * extent

    def answers(self, network: BoxNetwork, predictions: Predictions) -> Predictions:
        """Probabilities that a position is the centre of a box of each class, and left, top, right and bottom of that box in pixels; see `maps.found_boxes`."""
        import torch

        from usecases.driving_perception.heads.boxes.network import corners

        centres, sides = predictions
        return torch.sigmoid(centres * network.slope + network.shift), corners(sides)

    def calibrate(self, network: BoxNetwork, batches: Iterable[tuple[Arrays, Predictions]]) -> None:
        """Platt scaling (Platt 1999) from the logit of a centre to the probability that its box is correct."""
        from sklearn.linear_model import LogisticRegression

        from usecases.driving_perception.heads.boxes.network import corners

        logits, right = [], []
        for batch, (centres, sides) in batches:
            for truth, heat, box in zip(batch["boxes"], centres.sigmoid().numpy(), corners(sides).numpy(), strict=True):
                found = found_boxes(heat, box)
                near = overlaps(found.boxes, truth[:, 1:]) >= MATCHED
                counted = ~near[:, truth[:, 0] == UNCOUNTED].any(1)
                logits.append(np.log(found.scores / (1 - found.scores))[counted])
                right.append(_first_matches(near & (found.labels[:, None] == truth[:, 0]))[counted])
        x, y = np.concatenate(logits)[:, None], np.concatenate(right)
        if min(y.sum(), (~y).sum()) < MIN_BOXES:
            return
        fitted = LogisticRegression(C=1e3).fit(x, y)
        if fitted.coef_[0, 0] > 0:
            network.slope.fill_(float(fitted.coef_[0, 0]))
            network.shift.fill_(float(fitted.intercept_[0]))

    # -- quality --------------------------------------------------------------------------------------------------
    def evaluator(self, scenes: StoredScenes, card: dict[str, Any]) -> BoxEvaluator:
        from usecases.driving_perception.heads.boxes.scores import BoxEvaluator

        return BoxEvaluator(card["objects"], scenes.sizes(), (card["width"], card["height"]))

    def figures(self, evaluator: BoxEvaluator, predict: Predict, scenes: StoredScenes, card: dict[str, Any]) -> list[dict[str, Any]]:
        from usecases.driving_perception.heads.boxes.figures import fullest_frames, object_by_object

        return [object_by_object(evaluator), fullest_frames(evaluator, scenes, card)]

    def evidence(self, network: BoxNetwork, predictions: Predictions, number: int) -> Tensor:
        """The largest logit of a centre.

        Args:
            network: of this head.
            predictions: its predictions for the images.
            number: of the class.

        Returns:
            [N].
        """
        return predictions[0][:, number].flatten(1).max(1).values

    def attributions(self, network: RoadNetwork, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
        from usecases.driving_perception.heat import class_gallery

        known, boxes = scenes.rows_with(self.name), scenes.arrays["boxes"]
        rows = {number: [row for row in known if (boxes[row][:, 0] == number).any()] for number in range(len(card["objects"][:OBJECTS]))}
        caption = "HiResCAM of the box with the highest confidence: red where features increase it."
        return class_gallery(network, self, scenes, card["objects"], rows, "Evidence for objects", caption)

    # -- service --------------------------------------------------------------------------------------------------
    def answer(self, outputs: Arrays, picture: Image.Image, card: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The boxes in pixels of the image, the most confident first.

        Args:
            outputs: of the graph, without a batch axis.
            picture: the image of the request.
            card: `assets/scene.json`.

        Returns:
            `{"boxes": [{"label", "score", "box": [left, top, right, bottom]}]}`, and no doubts.
        """
        found = found_boxes(outputs["centres"], outputs["extents"], LIKELY)
        stretch = np.tile([picture.width / card["width"], picture.height / card["height"]], 2)
        sides = np.minimum(found.boxes * stretch, [picture.width, picture.height] * 2)
        boxes = [
            {"label": card["objects"][label], "score": round(float(score), 4), "box": [round(float(side), 1) for side in box]}
            for label, score, box in zip(found.labels, found.scores, sides, strict=True)
        ]
        return {"boxes": boxes}, []

    def blocks(self, answer: Mapping[str, Any], card: Mapping[str, Any]) -> list[AnswerBlock]:
        """The boxes with their confidences, the most confident first."""
        paint = dict(zip(card["objects"], card["object_colours"], strict=True))
        items = [
            Region(label=box["label"], value=box["score"], colour=hexadecimal(paint[box["label"]]), box=box["box"])
            for box in answer["boxes"]
        ]
        if not items:
            return [Note(kind="note", title="No objects")]
        return [Overlay(kind="overlay", title="Objects", caption="Confidence of each box.", items=items)]

    def advice(self, outputs: Arrays, answer: dict[str, Any], picture: Image.Image, card: dict[str, Any]) -> dict[str, Any]:
        from usecases.driving_perception.advice import Thing

        sides = np.array([picture.width, picture.height] * 2)
        return {"things": [Thing(box["label"], tuple(np.array(box["box"]) / sides)) for box in answer["boxes"]]}

    def draw(self, picture: Image.Image, answer: dict[str, Any], card: dict[str, Any]) -> Image.Image:
        from usecases.driving_perception.heads.boxes.drawing import outline

        paint = dict(zip(card["objects"], card["object_colours"], strict=True))
        outline(picture, [(tuple(paint[box["label"]]), f"{box['label']} {box['score']:.0%}", box["box"]) for box in answer["boxes"]])
        return picture


def _within(frame: Frame, width: int, height: int, findings: Findings) -> list[Box]:
    assert frame.boxes is not None
    kept = []
    for box in frame.boxes(width, height):
        inside = Box(box.label, max(box.left, 0), max(box.top, 0), min(box.right, width), min(box.bottom, height))
        where = f"{frame.name}: {box.label} {box.left:g} {box.top:g} {box.right:g} {box.bottom:g}"
        if inside.right - inside.left < MIN_SIDE or inside.bottom - inside.top < MIN_SIDE:
            findings.note("box without an area inside its image", where, "left out")
            continue
        if max(abs(a - b) for a, b in zip(_sides(inside), _sides(box), strict=True)) > MIN_SIDE:
            findings.note("box that extends beyond its image", where, "clipped")
        kept.append(inside)
    return kept


def _sides(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


def _first_matches(same: np.ndarray) -> np.ndarray:
    """Which of the predicted boxes, the most confident first, are the first to match a true one; bool [K] from matches bool [K, M]."""
    right, taken = np.zeros(len(same), dtype=bool), np.zeros(same.shape[1], dtype=bool)
    for row, matches in enumerate(same):
        free = np.flatnonzero(matches & ~taken)
        if len(free):
            taken[free[0]] = right[row] = True
    return right
