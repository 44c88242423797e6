"""What the report shows of a model of road scenes, head by head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.contract.types import Predict
from usecases import charts
from usecases.driving_perception.codec import LIKELY
from usecases.driving_perception.drawing import blended, outline
from usecases.driving_perception.heads.boxes.scores import BoxJudge
from usecases.driving_perception.heads.mask.scores import MaskJudge, iou, overlaps
from usecases.driving_perception.heads.signal import SignalJudge
from usecases.driving_perception.heads.steering.scores import WITHIN, SteeringJudge
from usecases.driving_perception.scenes import IGNORED, StoredScenes, counts_told, inputs_of, read_card
from usecases.driving_perception.scores import BATCH, Judged, judged

SHOWN = 6
SHOWN_MOMENTS = 300
WIDE = 480  # pixels of the longer side of a picture in the report


def figures(predict: Predict, folder: Path) -> dict[str, Any]:
    """Tables, charts and pictures of the test split; pictures the worst first."""
    card, scenes = read_card(folder / "assets"), StoredScenes(folder / "test")
    blocks: list[dict[str, Any]] = []
    found = judged(predict, folder, "test")
    for judge in found.whole.values():
        if isinstance(judge, MaskJudge):
            blocks += [*_classes(judge, card), _masks(predict, scenes, card)]
        elif isinstance(judge, BoxJudge):
            blocks += [_objects(judge), _boxes(judge, scenes, card)]
        elif isinstance(judge, SignalJudge):
            counts, kinds = judge.confusion(), judge.kinds
            blocks += [
                charts.classes(counts, kinds, "Pictures"),
                charts.confused_pairs(counts, kinds, "Pictures"),
                _mistaken(judge, scenes),
            ]
        else:
            blocks += [_along(judge), *_by_turns(judge, predict, scenes, counts_told(card).get("turn", 0)), _moments(judge, scenes)]
    blocks += [_by_scenario(head, judge.main, found) for head, judge in found.whole.items() if found.scenarios]
    return {"title": "What is seen on the test split", "blocks": blocks}


# -- masks ------------------------------------------------------------------------------------------------------------
def _classes(judge: MaskJudge, card: dict[str, Any]) -> list[dict[str, Any]]:
    total, classes = judge.confusion, judge.classes
    of_class, support = iou(overlaps(total)), total.sum(1) / max(total.sum(), 1)
    rows = [
        [classes[i], "–" if np.isnan(of_class[i]) else f"{of_class[i]:.3f}", f"{support[i]:.2%}", f"{card['shares'][i]:.2%}"]
        for i in np.argsort(np.nan_to_num(of_class, nan=2), kind="stable")
    ]
    blocks: list[dict[str, Any]] = [
        {
            "kind": "table",
            "title": "Class by class",
            "caption": "Intersection over union on the test split, the weakest first.",
            "columns": ["Class", "IoU", "Test pixels", "Training pixels"],
            "rows": rows,
        }
    ]
    return [*blocks, charts.confused_pairs(total, classes, "Pixels")]


def _masks(predict: Predict, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
    known = scenes.rows_with("mask")
    shown = []
    for row in known[np.unique(np.linspace(0, len(known) - 1, 4 * SHOWN).astype(np.int64))]:
        batch = scenes.batch(np.array([row]))
        true, found = batch["mask"][0], predict(inputs_of(batch))["mask"][0]
        counted = true != IGNORED
        right = float((found == true)[counted].mean()) if counted.any() else 1.0
        shown.append((right, int(row), batch["image"][0], true, found))
    names = scenes.names()
    items = [
        {
            "image": _one_above_other([blended(_picture(image), mask, card["colours"]) for mask in (found, true)]),
            "alt": f"{names[row]}: seen and true classes",
            "lines": [names[row], f"{right:.1%} right"],
        }
        for right, row, image, true, found in sorted(shown, key=lambda one: one[0])[:SHOWN]
    ]
    return {
        "kind": "gallery",
        "large": True,
        "title": "The worst of some frames",
        "caption": "What the network sees, above what is true.",
        "items": items,
    }


# -- boxes ------------------------------------------------------------------------------------------------------------
def _objects(judge: BoxJudge) -> dict[str, Any]:
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


def _boxes(judge: BoxJudge, scenes: StoredScenes, card: dict[str, Any]) -> dict[str, Any]:
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
            picture = _picture(scenes.batch(np.array([row]))["image"][0])
            shrink = np.tile(np.array(picture.size) / scenes.sizes()[row], 2)
            listed = [
                (tuple(card["object_colours"][label]), f"{judge.objects[label]} {word}".strip(), box * shrink)
                for label, box, word in zip(labels, sides, words, strict=True)
                if label >= 0
            ]
            outline(picture, listed)
            pictures.append(picture)
        line = f"{int((true[:, 0] >= 0).sum())} there, {int(likely.sum())} found"
        items.append({"image": _one_above_other(pictures), "alt": f"{names[row]}: found and true boxes", "lines": [names[row], line]})
    return {
        "kind": "gallery",
        "title": "Frames with the most objects",
        "caption": "What the network finds, above what is true.",
        "items": items,
    }


# -- steering ---------------------------------------------------------------------------------------------------------
def _along(judge: SteeringJudge) -> dict[str, Any]:
    shown = list(range(min(SHOWN_MOMENTS, len(judge.rows))))
    wanted, value, deviation = (np.stack(rows)[: len(shown), 0] for rows in (judge.wanted, judge.values, judge.deviations))
    lines = {"driver": wanted, "network": value, "95 % above": value + WITHIN * deviation, "95 % below": value - WITHIN * deviation}
    series = [
        {"name": name, "x": shown, "y": [round(float(one), 4) for one in y], **({"dashed": True} if "%" in name else {})}
        for name, y in lines.items()
    ]
    return {
        "kind": "lines",
        "title": "Steering along the test split",
        "caption": "Where lines jump, a stretch of another time begins.",
        "series": series,
        "x_label": "moment",
        "y_label": "steering",
    }


def _by_turns(judge: SteeringJudge, predict: Predict, scenes: StoredScenes, count: int) -> Iterator[dict[str, Any]]:
    """How far off the steering is that is asked for with some of the pictures before, where the network is told the turns."""
    if not count:
        return
    rmse: dict[int, float] = {}
    for known in range(min(2, count)):
        off = []
        for start in range(0, len(judge.rows), BATCH):
            batch = scenes.batch(np.array(judge.rows[start : start + BATCH]))
            batch["turn"][:, 2 * known :] = 0
            off.append(predict(inputs_of(batch))["values"][:, 0] - batch["values"][:, 0])
        rmse[known] = float(np.sqrt(np.square(np.concatenate(off)).mean()))
    rmse[count] = judge.scores()["steering_rmse"]
    yield {
        "kind": "bars",
        "title": "What the pictures before are worth",
        "caption": "`steering_rmse` where a picture is sent with so many of those before it; less is better.",
        "items": [{"label": f"{known} before" if known else "alone", "value": round(value, 4)} for known, value in rmse.items()],
    }


def _moments(judge: SteeringJudge, scenes: StoredScenes) -> dict[str, Any]:
    names, items = scenes.names(), []
    wanted, value, deviation = (np.stack(rows)[:, 0] for rows in (judge.wanted, judge.values, judge.deviations))
    for place in np.argsort(-np.abs(value - wanted), kind="stable")[:SHOWN]:
        row = judge.rows[place]
        image = charts.picture(scenes.batch(np.array([row]))["image"][0].transpose(1, 2, 0), WIDE)
        line = f"driver {wanted[place]:+.2f}, network {value[place]:+.2f} ± {deviation[place]:.2f}"
        items.append({"image": image, "alt": names[row], "lines": [names[row], line]})
    return {"kind": "gallery", "large": True, "title": "Worst moments", "caption": "Look for wrong recordings here first.", "items": items}


# -- signs and lights --------------------------------------------------------------------------------------------------
def _mistaken(judge: SignalJudge, scenes: StoredScenes) -> dict[str, Any]:
    """Those that were named wrong, the surest first."""
    names, items = scenes.names(), []
    probabilities, true = np.stack(judge.probabilities), np.array(judge.true)
    told = probabilities.argmax(1)
    wrong = np.flatnonzero(told != true)
    for place in wrong[np.argsort(-probabilities.max(1)[wrong], kind="stable")][: 2 * SHOWN]:
        name, said = names[judge.rows[place]], f"{judge.kinds[true[place]]} as {judge.kinds[told[place]]}"
        image = charts.picture(scenes.batch(np.array([judge.rows[place]]))["image"][0].transpose(1, 2, 0), WIDE, "PNG")
        items.append({"image": image, "alt": f"{name}: {said}", "lines": [said, f"{probabilities[place].max():.0%} sure", name]})
    caption = "The surest first: look for wrong labels here." if items else "None: all were named right."
    return {"kind": "gallery", "title": "Signs and lights that were mistaken", "caption": caption, "items": items}


# -- scenarios --------------------------------------------------------------------------------------------------------
def _by_scenario(head: str, main: str, found: Judged) -> dict[str, Any]:
    items = [{"label": name, "value": round(judges[head].scores()[main], 4)} for name, judges in found.scenarios.items() if head in judges]
    return {"kind": "bars", "title": f"By scenario: {head}", "caption": main, "items": items}


# -- pictures ---------------------------------------------------------------------------------------------------------
def _picture(image: np.ndarray) -> Image.Image:
    """uint8 [3, H, W] as a picture of its own."""
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def _one_above_other(pictures: list[Image.Image]) -> str:
    return charts.picture(np.concatenate([np.asarray(picture) for picture in pictures]), WIDE)
