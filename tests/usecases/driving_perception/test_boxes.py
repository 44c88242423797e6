"""Boxes: every layout gives the same ones, they are scored as COCO does, learnt, and put back into the picture they came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from tasks.exporting.export import check_parity, check_symbolic_axes, write_graph
from tasks.training.predicting import torch_predict
from tests.usecases.changes import unnoticed_changes
from tests.usecases.driving_perception.roads import prepared, save
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.boxed import find_boxed
from usecases.driving_perception.frames import Box
from usecases.driving_perception.heads.boxes.maps import STRIDE, found_boxes, overlaps
from usecases.driving_perception.heads.boxes.network import corners, generalised_overlap, targets
from usecases.driving_perception.network import RoadNetwork
from usecases.driving_perception.sample import HEIGHT, WIDTH, draw
from usecases.driving_perception.scenes import NOTHING, UNCOUNTED, StoredScenes, read_card
from usecases.driving_perception.scores import scores

FRAMES = 12
OBJECTS = ["person", "sign", "vehicle"]
SMALL = DrivingPerception(channels=16, heads=("boxes",))


def boxes(number: int) -> tuple[Box, ...]:
    return draw("day", number, 0).boxes


def pictures(folder: Path) -> None:
    for number in range(FRAMES):
        save(draw("day", number, 0).picture, folder / f"{number:06d}.png")


def kitti(folder: Path) -> None:
    pictures(folder / "training" / "image_2")
    for number in range(FRAMES):
        lines = [f"{b.label} 0.00 0 -1.5 {b.left} {b.top} {b.right} {b.bottom} 1.5 1.6 3.7 1 2 3 -1.5" for b in boxes(number)]
        write(
            folder / "training" / "label_2" / f"{number:06d}.txt", [*lines, "DontCare -1 -1 -10 0 0 20 20 -1 -1 -1 -1000 -1000 -1000 -10"]
        )


def yolo_lines(number: int) -> list[str]:
    centres = [((b.left + b.right) / 2 / WIDTH, (b.top + b.bottom) / 2 / HEIGHT, b) for b in boxes(number)]
    return [
        f"{OBJECTS.index(b.label)} {x:.6f} {y:.6f} {(b.right - b.left) / WIDTH:.6f} {(b.bottom - b.top) / HEIGHT:.6f}"
        for x, y, b in centres
    ]


def yolo_of_ultralytics(folder: Path) -> None:
    for split, numbers in {"train": range(8), "val": range(8, 10), "test": range(10, 12)}.items():
        for number in numbers:
            save(draw("day", number, 0).picture, folder / "images" / split / f"{number:06d}.png")
            write(folder / "labels" / split / f"{number:06d}.txt", yolo_lines(number))
    write(folder / "data.yaml", ["names:", *(f"  {number}: {name}" for number, name in enumerate(OBJECTS))])


def yolo_of_roboflow(folder: Path) -> None:
    for split, numbers in {"train": range(8), "valid": range(8, 10), "test": range(10, 12)}.items():
        for number in numbers:
            save(draw("day", number, 0).picture, folder / split / "images" / f"{number:06d}.png")
            write(folder / split / "labels" / f"{number:06d}.txt", yolo_lines(number))
    write(folder / "data.yaml", [f"names: {OBJECTS}", "nc: 3"])


def yolo_of_darknet(folder: Path) -> None:
    pictures(folder / "obj_train_data")
    for number in range(FRAMES):
        write(folder / "obj_train_data" / f"{number:06d}.txt", yolo_lines(number))
    write(folder / "obj.names", OBJECTS)


def coco(folder: Path) -> None:
    pictures(folder / "train2017")
    found = [(number, box) for number in range(FRAMES) for box in boxes(number)]
    content = {
        "images": [{"id": 100 + number, "file_name": f"{number:06d}.png"} for number in range(FRAMES)],
        "categories": [{"id": 7 * (number + 1), "name": name} for number, name in enumerate(OBJECTS)],
        "annotations": [
            {
                "id": row,
                "image_id": 100 + number,
                "category_id": 7 * (OBJECTS.index(box.label) + 1),
                "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
                "iscrowd": 0,
            }
            for row, (number, box) in enumerate(found)
        ],
    }
    write(folder / "annotations" / "instances_train2017.json", [json.dumps(content)])


def voc(folder: Path) -> None:
    for number in range(FRAMES):
        voc_of(folder, f"{number:06d}", number, "JPEGImages", "Annotations")


def voc_of(folder: Path, name: str, number: int, images: str = "", labels: str = "") -> None:
    save(draw("day", number, 0).picture, folder / images / f"{name}.png")
    things = [
        f"<object><name>{b.label}</name><difficult>0</difficult><bndbox><xmin>{b.left}</xmin><ymin>{b.top}</ymin>"
        f"<xmax>{b.right}</xmax><ymax>{b.bottom}</ymax></bndbox></object>"
        for b in boxes(number)
    ]
    write(folder / labels / f"{name}.xml", [f"<annotation><filename>{name}.png</filename>", *things, "</annotation>"])


def write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


LAYOUTS = (kitti, yolo_of_ultralytics, yolo_of_roboflow, yolo_of_darknet, coco, voc)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_links_are_followed_and_the_digest_notices_every_change(layout: Callable[[Path], None], tmp_path: Path) -> None:
    layout(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    for inside in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "data" / inside.name).symlink_to(inside, target_is_directory=inside.is_dir())
    (tmp_path / "data" / "notes.md").write_text("so that the folder is not passed over\n")
    source = find_boxed(tmp_path / "data", Findings())
    assert source is not None and len(source.frames) == FRAMES and all(frame.boxes for frame in source.frames)
    assert not unnoticed_changes(DrivingPerception(data=str(tmp_path / "data")), tmp_path / "elsewhere")


def test_images_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    coco(tmp_path / "data")
    (tmp_path / "data" / "train2017").rename(tmp_path / "elsewhere")
    file = tmp_path / "data" / "annotations" / "instances_train2017.json"
    file.write_text(file.read_text().replace('"file_name": "', '"file_name": "../../elsewhere/'))
    findings = Findings()
    assert find_boxed(tmp_path / "data", findings) is None
    assert findings.kinds["label that names a missing image"]["count"] == FRAMES


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_gives_the_same_boxes(layout: Callable[[Path], None], tmp_path: Path) -> None:
    layout(tmp_path / "data")
    card = prepared(tmp_path / "data", tmp_path / "out")
    assert card["heads"] == ["boxes"] and sum(card["sizes"].values()) == FRAMES
    assert read_card(tmp_path / "out" / "assets")["objects"] == OBJECTS
    scenes = StoredScenes(tmp_path / "out" / "train")
    for row, name in enumerate(scenes.names()):
        table = scenes.arrays["boxes"][row]
        wanted = [[OBJECTS.index(b.label), b.left, b.top, b.right, b.bottom] for b in boxes(int(Path(name).stem))]
        assert table[table[:, 0] >= 0] == pytest.approx(np.array(wanted, dtype=np.float32).reshape(-1, 5), abs=0.01)
        assert (table[:, 0] == UNCOUNTED).sum() == (layout is kitti)


def test_pictures_of_one_name_stay_with_the_labels_of_their_split(tmp_path: Path) -> None:
    for split, number in {"train": 0, "valid": 1, "test": 2}.items():
        voc_of(tmp_path / "data" / split, "frame", number)
    prepared(tmp_path / "data", tmp_path / "out")
    for split, number in {"train": 0, "validation": 1, "test": 2}.items():
        batch = StoredScenes(tmp_path / "out" / split).batch(np.arange(1))
        assert (batch["image"][0] == draw("day", number, 0).picture.transpose(2, 0, 1)).all()
        assert batch["boxes"][0, 0, 1:].tolist() == [
            boxes(number)[0].left,
            boxes(number)[0].top,
            boxes(number)[0].right,
            boxes(number)[0].bottom,
        ]


def first(folder: Path) -> Path:
    return folder / "obj_train_data" / "000000.txt"


def spoil(folder: Path, what: str) -> None:
    path = first(folder)
    lines = path.read_text().splitlines()
    if what == "no numbers":
        write(path, [*lines, "1 a b c d"])
    elif what == "unknown class":
        write(path, [*lines, "9 0.5 0.5 0.1 0.1"])
    elif what == "beyond the picture":
        write(path, [*lines, "1 0.98 0.5 0.2 0.2"])
    elif what == "without an area":
        write(path, [*lines, "1 0.5 0.5 0 0.2"])
    elif what == "no label file":
        path.unlink()
    elif what == "no picture":
        path.with_suffix(".png").unlink()


@pytest.mark.parametrize(
    ("what", "kind", "example"),
    [
        ("no numbers", "label that cannot be read", "000000.txt line"),
        ("unknown class", "label with a class that is not in the list", ": 9"),
        ("beyond the picture", "box that extends beyond its image", "obj_train_data/000000.png: sign"),
        ("without an area", "box without an area inside its image", "obj_train_data/000000.png: sign"),
        ("no label file", "image without a label file", "obj_train_data/000000.png"),
        ("no picture", "label that names a missing image", "obj_train_data/000000.txt"),
    ],
)
def test_what_is_wrong_is_said(what: str, kind: str, example: str, tmp_path: Path) -> None:
    yolo_of_darknet(tmp_path / "data")
    spoil(tmp_path / "data", what)
    card = prepared(tmp_path / "data", tmp_path / "out", tolerance=0.1)
    found = next(finding for finding in card["findings"] if finding["kind"] == kind)
    assert example in found["examples"][0]


def test_numbers_without_names_are_refused(tmp_path: Path) -> None:
    yolo_of_roboflow(tmp_path / "data")
    (tmp_path / "data" / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"no list names them. Write classes.txt"):
        prepared(tmp_path / "data", tmp_path / "out")


def test_heads_that_the_data_do_not_know_are_refused(tmp_path: Path) -> None:
    kitti(tmp_path / "data")
    with pytest.raises(DataError, match="asks for steering, but the data have labels for boxes only"):
        prepared(tmp_path / "data", tmp_path / "out", heads=("steering",))


# -- maps and boxes ---------------------------------------------------------------------------------------------------
def as_maps(table: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """What a network without fault would say of [N, M, 5]."""
    wanted = targets(torch.from_numpy(table), len(OBJECTS), size)
    return {"centres": 0.98 * wanted.heat.numpy(), "extents": wanted.box.numpy()}


def test_boxes_come_back_from_maps() -> None:
    there = [[0, 10, 8, 30, 40], [2, 60, 20, 90, 60], [2, 61, 70, 63, 73], [0, 14, 50, 30, 58]]
    table = np.array([[*there, [NOTHING, 0, 0, 0, 0]]], dtype=np.float32)
    maps = as_maps(table, (30, 40))
    found = found_boxes(maps["centres"][0], maps["extents"][0], least=0.9)
    assert sorted([int(label), *box.tolist()] for label, box in zip(found.labels, found.boxes, strict=True)) == sorted(there)


def test_of_boxes_round_one_thing_the_surest_stays() -> None:
    centres, extents = np.zeros((2, 8, 8), dtype=np.float32), np.zeros((4, 8, 8), dtype=np.float32)
    for (label, row, column), score in {(0, 2, 2): 0.9, (0, 4, 2): 0.8, (1, 4, 4): 0.7, (0, 6, 6): 0.6}.items():
        centres[label, row, column] = score
        extents[:, row, column] = [0, 0, 20, 20] if row < 6 else [20, 20, 30, 30]
    found = found_boxes(centres, extents)
    assert found.scores == pytest.approx([0.9, 0.7, 0.6]) and found.labels.tolist() == [0, 1, 0]


def test_overlaps_are_those_of_the_field() -> None:
    one, other = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10], [20, 20, 30, 30]])
    assert overlaps(one, other)[0] == pytest.approx([50 / 150, 0])
    general = generalised_overlap(torch.tensor(one[..., None]), torch.tensor(other[1:, :, None]))
    assert float(general) == pytest.approx(0 - (900 - 200) / 900)
    sides = torch.full((1, 4, 2, 3), 2.0)
    assert corners(sides)[0, :, 1, 2].tolist() == [2.5 * STRIDE - 2, 1.5 * STRIDE - 2, 2.5 * STRIDE + 2, 1.5 * STRIDE + 2]


# -- scores and learning ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    SMALL.prepare(folder)
    return folder


def known(folder: Path) -> dict[bytes, np.ndarray]:
    batch = StoredScenes(folder / "test").batch(np.arange(64))
    return {image.tobytes(): table for image, table in zip(batch["image"], batch["boxes"], strict=True)}


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 1.0), (200.0, 0.0)])
def test_perfect_boxes_score_one_and_boxes_elsewhere_nothing(shift: float, expected: float, sample: Path) -> None:
    tables = known(sample)

    def say(inputs: dict[str, Any]) -> dict[str, Any]:
        maps = as_maps(np.stack([tables[image.tobytes()] for image in inputs["image"]]), (30, 40))
        return {**maps, "extents": maps["extents"] + shift}

    found = scores(say, sample, "test")
    assert found["map50"] == pytest.approx(expected, abs=0.02)  # of two centres in one position one is hidden
    assert found["map/vehicle"] <= 1 and "map_small" in found


def test_nothing_found_scores_nothing(sample: Path) -> None:
    def say(inputs: dict[str, Any]) -> dict[str, Any]:
        count = len(inputs["image"])
        return {"centres": np.zeros((count, 3, 30, 40), dtype=np.float32), "extents": np.zeros((count, 4, 30, 40), dtype=np.float32)}

    assert scores(say, sample, "test")["map"] == 0


@pytest.fixture(scope="module")
def learnt(sample: Path) -> RoadNetwork:
    torch.manual_seed(0)
    network, examples = cast(RoadNetwork, SMALL.network(sample / "assets")).train(), SMALL.examples(sample, "train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.006)
    for step in range(100):
        rows = np.random.default_rng(step).choice(len(examples), 12, replace=False)
        loss = SMALL.loss(network, {name: torch.from_numpy(array) for name, array in examples.batch(rows).items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.mark.slow
def test_boxes_are_learnt_and_their_certainty_is_honest(learnt: RoadNetwork, sample: Path) -> None:
    predict = torch_predict(SMALL, learnt)
    before = scores(predict, sample, "test")
    SMALL.calibrate(learnt, predict, sample)
    after = scores(predict, sample, "test")
    assert after["map50"] > 0.4 and after["map50"] == pytest.approx(before["map50"], abs=0.01), "calibration does not change the ranking"
    said, right = [], []
    batch = SMALL.examples(sample, "test").batch(np.arange(64))
    out = predict({"image": batch["image"]})
    for table, centres, extents in zip(batch["boxes"], out["centres"], out["extents"], strict=True):
        found = found_boxes(centres, extents, least=0.3)
        true = table[table[:, 0] >= 0]
        said += found.scores.tolist()
        right += [
            ((overlaps(b[None], true[:, 1:])[0] >= 0.5) & (true[:, 0] == n)).any() for n, b in zip(found.labels, found.boxes, strict=True)
        ]
    assert abs(np.mean(said) - np.mean(right)) < 0.2


def test_the_graph_is_the_twin_of_the_network(sample: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = cast(RoadNetwork, SMALL.network(sample / "assets")).eval()
    inputs = {"image": SMALL.examples(sample, "test").batch(np.arange(7))["image"]}
    write_graph(SMALL, network, {"image": inputs["image"][:2]}, tmp_path / "model.onnx")
    check_symbolic_axes(tmp_path / "model.onnx")
    check_parity(SMALL, network, inputs, tmp_path / "model.onnx")
