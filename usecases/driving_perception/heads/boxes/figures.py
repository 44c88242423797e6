"""Figures of object detection in the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from usecases.driving_perception.heads.boxes.drawing import outline
from usecases.driving_perception.heads.boxes.maps import LIKELY
from usecases.driving_perception.heads.boxes.scores import BoxEvaluator
from usecases.driving_perception.pictures import SHOWN, as_picture, one_above_other
from usecases.driving_perception.scenes import StoredScenes


def object_by_object(evaluator: BoxEvaluator) -> dict[str, Any]:
    """A table with the average precision of each class."""
    measured = evaluator.scores()
    true = np.concatenate([boxes[:, 0] for boxes in evaluator.truth.values()])
    rows = [
        [name, f"{measured[f'map/{name}']:.3f}" if f"map/{name}" in measured else "–", int((true == number).sum())]
        for number, name in enumerate(evaluator.objects)
    ]
    sizes = ", ".join(f"{name.removeprefix('map_')} {value:.3f}" for name, value in measured.items() if name.startswith("map_"))
    return {
        "kind": "table",
        "title": "Average precision by class",
        "caption": f"Average precision by COCO's protocol: {measured['map']:.3f}, at an IoU of 0.5 {measured['map50']:.3f}; by size: {sizes}.",
        "columns": ["Class", "Average precision", "Objects in the test split"],
        "rows": rows,
    }


def fullest_frames(evaluator: BoxEvaluator, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
    """A gallery of the frames with the most objects.

    Args:
        evaluator: with all frames of the split.
        scenes: the split.
        card: `assets/scene.json`.

    Returns:
        A block of kind gallery.
    """
    names, items = scenes.names(), []
    for row in sorted(evaluator.truth, key=lambda row: -len(evaluator.truth[row]))[:SHOWN]:
        found, true = evaluator.found[row], evaluator.truth[row]
        likely = found.scores >= LIKELY
        pictures = []
        for labels, sides, notes in (
            (found.labels[likely], found.boxes[likely], [f"{score:.0%}" for score in found.scores[likely]]),
            (true[:, 0].astype(int), true[:, 1:], [""] * len(true)),
        ):
            picture = as_picture(scenes.batch(np.array([row]))["image"][0])
            shrink = np.tile(np.array(picture.size) / scenes.sizes()[row], 2)
            listed = [
                (tuple(card["object_colours"][label]), f"{evaluator.objects[label]} {note}".strip(), box * shrink)
                for label, box, note in zip(labels, sides, notes, strict=True)
                if label >= 0
            ]
            outline(picture, listed)
            pictures.append(picture)
        line = f"{int((true[:, 0] >= 0).sum())} true, {int(likely.sum())} predicted"
        items.append({"image": one_above_other(pictures), "alt": f"{names[row]}: predicted and true boxes", "lines": [names[row], line]})
    return {
        "kind": "gallery",
        "title": "Frames with the most objects",
        "caption": "Predicted boxes above, true boxes below.",
        "items": items,
    }
