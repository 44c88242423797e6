"""What the report shows of boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from usecases.driving_perception.heads.boxes.drawing import outline
from usecases.driving_perception.heads.boxes.maps import LIKELY
from usecases.driving_perception.heads.boxes.scores import BoxJudge
from usecases.driving_perception.pictures import SHOWN, as_picture, one_above_other
from usecases.driving_perception.scenes import StoredScenes


def object_by_object(judge: BoxJudge) -> dict[str, Any]:
    measured = judge.scores()
    true = np.concatenate([boxes[:, 0] for boxes in judge.truth.values()])
    rows = [
        [name, f"{measured[f'map/{name}']:.3f}" if f"map/{name}" in measured else "–", int((true == number).sum())]
        for number, name in enumerate(judge.objects)
    ]
    sizes = ", ".join(f"{name.removeprefix('map_')} {value:.3f}" for name, value in measured.items() if name.startswith("map_"))
    return {
        "kind": "table",
        "title": "Object by object",
        "caption": f"Average precision by COCO's protocol: {measured['map']:.3f}, at half overlap {measured['map50']:.3f}; by size: {sizes}.",
        "columns": ["Object", "Average precision", "In the test split"],
        "rows": rows,
    }


def fullest_frames(judge: BoxJudge, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
    """The frames with the most things, in which most can go wrong."""
    names, items = scenes.names(), []
    for row in sorted(judge.truth, key=lambda row: -len(judge.truth[row]))[:SHOWN]:
        found, true = judge.found[row], judge.truth[row]
        likely = found.scores >= LIKELY
        pictures = []
        for labels, sides, words in (
            (found.labels[likely], found.boxes[likely], [f"{score:.0%}" for score in found.scores[likely]]),
            (true[:, 0].astype(int), true[:, 1:], [""] * len(true)),
        ):
            picture = as_picture(scenes.batch(np.array([row]))["image"][0])
            shrink = np.tile(np.array(picture.size) / scenes.sizes()[row], 2)
            listed = [
                (tuple(card["object_colours"][label]), f"{judge.objects[label]} {word}".strip(), box * shrink)
                for label, box, word in zip(labels, sides, words, strict=True)
                if label >= 0
            ]
            outline(picture, listed)
            pictures.append(picture)
        line = f"{int((true[:, 0] >= 0).sum())} there, {int(likely.sum())} found"
        items.append({"image": one_above_other(pictures), "alt": f"{names[row]}: found and true boxes", "lines": [names[row], line]})
    return {
        "kind": "gallery",
        "title": "Frames with the most objects",
        "caption": "What the network finds, above what is true.",
        "items": items,
    }
