"""Small data under the names that the documentation uses, next to the reader's project."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from usecases.driving_perception.sample import CLASSES, SCENARIOS, draw

COLOURS = {"cat": (200, 120, 60), "dog": (60, 90, 200), "owl": (90, 180, 90)}
WORDS = {"good": ["warm", "clever", "superb", "funny", "bright"], "bad": ["dull", "long", "loud", "weak", "flat"]}
TOPICS = ("billing", "refund", "login", "bug")


def write_all(folder: Path) -> None:
    """Every data set of the documentation below `folder`."""
    photos(folder / "photos")
    specimens(folder / "specimens")
    labelled(folder / "labelled")
    shop(folder / "shop")
    orders(folder / "orders")
    reviews(folder / "reviews")
    tickets(folder / "tickets")
    entities(folder / "names.conll")
    for name in ("train", "val", "test"):
        camvid(folder / "camvid", name)
    kitti(folder / "kitti" / "training")
    tub(folder / "tub")
    roads(folder / "roads")


def picture(colour: tuple[int, int, int], seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 30, (32, 32, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


def table(path: Path, rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def saved(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


# -- images -----------------------------------------------------------------------------------------------------------
def photos(folder: Path) -> None:
    for place, (name, colour) in enumerate(COLOURS.items()):
        for number in range(40):
            saved(picture(colour, 100 * place + number), folder / name / f"{number}.png")


def specimens(folder: Path) -> None:
    rows: list[list[object]] = [["file", "category", "species"]]
    for number in range(60):
        name = list(COLOURS)[number % 3]
        saved(picture(COLOURS[name], number), folder / f"{number:03}.png")
        rows.append([f"{number:03}.png", ("herbarium", "field")[number % 2], name])
    table(folder / "specimens.csv", rows)


def labelled(folder: Path) -> None:
    lines = []
    for number in range(60):
        name = list(COLOURS)[number % 3]
        saved(picture(COLOURS[name], number), folder / "images" / f"{number:03}.png")
        lines.append(json.dumps({"image": f"images/{number:03}.png", "label": name}))
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")


# -- logs -------------------------------------------------------------------------------------------------------------
def shop(folder: Path) -> None:
    rows: list[list[object]] = [["customer_id", "product_id", "event_time"]]
    rows += [[f"c{user}", f"p{(user + 3 * step) % 30}", 1_700_000_000 + 86_400 * step + user] for user in range(80) for step in range(12)]
    table(folder / "events.csv", rows)
    table(folder / "products.csv", [["product_id", "title"], *([f"p{number}", f"Product {number}"] for number in range(30))])


def orders(folder: Path) -> None:
    rows: list[list[object]] = [["customer_id", "product_id", "ordered_at", "date"]]
    for user in range(80):
        rows += [[f"c{user}", f"p{(user + 7 * step) % 23}", 1_700_000_000 + 86_400 * step + user, "2024-05-01"] for step in range(12)]
    table(folder / "orders.csv", rows)


# -- texts ------------------------------------------------------------------------------------------------------------
def reviews(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name, size in (("train", 160), ("dev", 40), ("test", 40)):
        rows: list[list[object]] = [["text", "label"]]
        for number in range(size):
            label = ("good", "bad")[number % 2]
            rows.append([f"{name} {number}: a {' and '.join(random.choice(WORDS[label], 3))} film", label])
        table(folder / f"{name}.csv", rows)


def tickets(folder: Path) -> None:
    rows: list[list[object]] = [["text", "labels"]]
    for number in range(200):
        one, other = TOPICS[number % 4], TOPICS[number // 4 % 4]
        rows.append([f"ticket about {one} and {other} number {number}", one if one == other else f"{one};{other}"])
    table(folder / "tickets.csv", rows)


def entities(path: Path) -> None:
    people, towns = ("Anna", "Karl", "Ida", "Wei"), ("Oslo", "Rome", "Lagos", "Kyoto")
    sentences = [
        [(person, "B-PER"), (verb, "O"), ("to", "O"), (town, "B-LOC"), (".", "O")]
        for person in people
        for town in towns
        for verb in ("flew", "walked", "wrote", "came", "returned")
    ]
    path.write_text("\n\n".join("\n".join(" ".join(token) for token in sentence) for sentence in sentences) + "\n", encoding="utf-8")


# -- roads ------------------------------------------------------------------------------------------------------------
def camvid(folder: Path, split: str) -> None:
    for recording in range(3 if split == "train" else 1):
        for frame in range(6):
            drawn = draw("day", {"train": 0, "val": 4, "test": 5}[split] + recording, frame)
            stem = f"{recording:02}{frame:02}" if split != "val" else f"{frame + 1:04}"
            saved(Image.fromarray(drawn.picture), folder / split / f"{stem}.png")
            saved(Image.fromarray(drawn.mask), folder / f"{split}annot" / f"{stem}.png")
    (folder / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")


def kitti(folder: Path) -> None:
    for recording in range(8):
        for frame in range(4):
            drawn, stem = draw("day", recording, frame), f"{recording:03}_{frame:03}"
            saved(Image.fromarray(drawn.picture), folder / "image_2" / f"{stem}.png")
            lines = [f"{b.label.replace(' ', '_')} 0 0 0 {b.left} {b.top} {b.right} {b.bottom} 0 0 0 0 0 0 0" for b in drawn.boxes]
            (folder / "label_2").mkdir(parents=True, exist_ok=True)
            (folder / "label_2" / f"{stem}.txt").write_text("\n".join(lines), encoding="utf-8")


def tub(folder: Path) -> None:
    records = []
    for number in range(160):
        noise = np.random.default_rng(number).normal(90, 12, (48, 64, 3))
        image = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
        angle = float(np.sin(number / 7))
        ImageDraw.Draw(image).polygon([(32 + 24 * angle, 12), (52, 48), (12, 48)], fill=(220, 220, 220))
        saved(image, folder / "images" / f"{number}_cam.jpg")
        records.append(
            {
                "_index": number,
                "_session_id": f"s{number // 40}",
                "cam/image_array": f"{number}_cam.jpg",
                "user/angle": angle,
                "user/throttle": 0.3,
            }
        )
    (folder / "catalog_0.catalog").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    lines = [
        ["cam/image_array", "user/angle", "user/throttle"],
        ["image_array", "float", "float"],
        {},
        {},
        {"paths": ["catalog_0.catalog"], "deleted_indexes": []},
    ]
    (folder / "manifest.json").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def roads(folder: Path) -> None:
    for scenario in SCENARIOS[:2]:
        for recording in range(6):
            for frame in range(4):
                drawn, name = draw(scenario, recording, frame), f"{scenario}/r{recording}_{frame}.png"
                saved(Image.fromarray(drawn.picture), folder / "images" / name)
                saved(Image.fromarray(drawn.mask), folder / "masks" / name)
    (folder / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")
