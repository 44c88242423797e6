"""Crops of signs and lights: read from GTSRB and class folders, classified, and confusions of red and green counted."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tasks.contract.errors import DataError
from tasks.exporting.export import check_parity, check_symbolic_axes, write_graph
from tasks.training.predicting import torch_predict
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.attributions import attributions
from usecases.driving_perception.codec import RoadCodec
from usecases.driving_perception.heads.signal import SignalEvaluator
from usecases.driving_perception.network import RoadNetwork
from usecases.driving_perception.scenes import StoredScenes, read_card
from usecases.images import as_png

LIGHTS = {"red": 0, "yellow": 1, "green": 2}
INK = ((220, 40, 40), (230, 190, 30), (40, 190, 80))
SMALL = DrivingPerception(channels=8, dropout=0.0, heads=("signal",))


def light(kind: str, number: int) -> Image.Image:
    """A lamp of three, one of them lit, in a cutting of a size of its own."""
    random = np.random.default_rng((LIGHTS[kind], number))
    width = int(random.integers(14, 24))
    picture = Image.new("RGB", (width, 2 * width), tuple(int(v) for v in random.integers(20, 60, 3)))
    top = 2 * width * LIGHTS[kind] / 3
    ImageDraw.Draw(picture).ellipse((2, top + 1, width - 2, top + 2 * width / 3 - 1), fill=INK[LIGHTS[kind]])
    return picture


def lights(folder: Path) -> None:
    for kind in LIGHTS:
        (folder / kind).mkdir(parents=True)
        for number in range(20):
            light(kind, number).save(folder / kind / f"{number:03d}.png")


def gtsrb(folder: Path) -> None:
    """Tracks of three frames in folders of classes, and a test split in one folder with a list."""
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"

    def write(place: Path, name: str, kind: int, seed: int) -> str:
        picture = Image.new("RGB", (40, 40), (seed % 250, 30, 30))
        picture.paste(light(list(LIGHTS)[kind], seed).resize((20, 20)), (8, 6))
        picture.save(place / name)
        return f"{name};40;40;8;6;28;26;{kind}"

    for kind in range(3):
        place = folder / "GTSRB" / "Final_Training" / "Images" / f"{kind:05d}"
        place.mkdir(parents=True)
        rows = [write(place, f"{track:05d}_{frame:05d}.ppm", kind, 10 * track + frame) for track in range(8) for frame in range(3)]
        (place / f"GT-{kind:05d}.csv").write_text("\n".join([header, *rows]))
    place = folder / "GTSRB" / "Final_Test" / "Images"
    place.mkdir(parents=True)
    rows = [write(place, f"{number:05d}.ppm", number % 3, 500 + number) for number in range(12)]
    (place / "GT-final_test.csv").write_text("\n".join([header, *rows]))


def test_lights_are_classified(tmp_path: Path) -> None:
    lights(tmp_path / "lights")
    usecase = SMALL.model_copy(update={"data": str(tmp_path / "lights")})
    card = usecase.prepare(tmp_path / "out")
    assert card["heads"] == ["signal"] and card["labels"] == ["green", "red", "yellow"] and usecase.monitor == "macro_recall"
    torch.manual_seed(0)
    network, train = cast(RoadNetwork, usecase.network(tmp_path / "out" / "assets")).train(), usecase.examples(tmp_path / "out", "train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.005)
    for step in range(40):
        rows = np.random.default_rng(step).choice(len(train), 16, replace=False)
        usecase.loss(network, {name: torch.from_numpy(array) for name, array in train.batch(rows).items()}).backward()
        optimizer.step()
        optimizer.zero_grad()
    predict = torch_predict(usecase, network.eval())
    usecase.calibrate(network, predict, tmp_path / "out")
    measured = usecase.score(predict, tmp_path / "out", "test")
    assert measured["macro_recall"] > 0.9 and measured["red_as_green"] == 0

    graph = tmp_path / "model.onnx"
    example = usecase.calibration_inputs(tmp_path / "out", np.arange(2))
    write_graph(usecase, network, example, graph)
    check_symbolic_axes(graph)
    check_parity(usecase, network, {"image": example["image"]}, graph)

    codec = RoadCodec(tmp_path / "out" / "assets")
    answer = codec.decode(predict(codec.encode([as_png(light("red", 77))])), [as_png(light("red", 77))])[0]
    assert answer["signal"] == "red" and answer["trusted"] and answer["advice"]["action"] == "stop"
    assert answer["advice"]["reasons"] == ["a light is red"] and sum(answer["signals"].values()) == pytest.approx(1, abs=1e-3)
    titles = [block["title"] for block in usecase.figures(predict, tmp_path / "out")["blocks"]]
    assert titles == ["Class by class", "Most confused pairs", "Mistakes of signs and lights"]
    assert [block["title"] for block in attributions(network, tmp_path / "out")] == ["Evidence for signs and lights"]


def test_gtsrb_is_read_with_regions_and_tracks_and_its_own_test_split(tmp_path: Path) -> None:
    gtsrb(tmp_path / "data")
    card = SMALL.model_copy(update={"data": str(tmp_path / "data")}).prepare(tmp_path / "out")
    assert card["labels"] == ["00000", "00001", "00002"] and "tracks" in card["layout"] and card["sizes"]["test"] == 12
    tracks = {
        split: {name.rpartition("_")[0] for name in StoredScenes(tmp_path / "out" / split).names()} for split in ("train", "validation")
    }
    assert not tracks["train"] & tracks["validation"]
    test = StoredScenes(tmp_path / "out" / "test")
    assert test.arrays["signal"].tolist() == [number % 3 for number in range(12)]
    assert test.sizes().tolist() == [[20, 20]] * 12, "only the region of the sign"


def test_signs_are_never_mirrored(tmp_path: Path) -> None:
    """Left of a cutting is brighter than right, whatever training does to it."""
    from usecases.driving_perception.augment import augmented

    image = torch.zeros(64, 3, 64, 64, dtype=torch.uint8)
    image[..., :32] = 200
    image[..., 32:] = 60
    batch = {"image": image, "signal": torch.zeros(64, dtype=torch.int64)}
    torch.manual_seed(0)
    seen = augmented(SMALL, batch)["image"]
    assert bool((seen[..., :8].mean((1, 2, 3)) >= seen[..., -8:].mean((1, 2, 3)) - 1e-3).all())
    batch["signal"][:] = -1
    seen = augmented(SMALL, batch)["image"]
    assert not bool((seen[..., :8].mean((1, 2, 3)) >= seen[..., -8:].mean((1, 2, 3)) - 1e-3).all())


def test_red_taken_for_green_is_counted(tmp_path: Path) -> None:
    lights(tmp_path / "lights")
    SMALL.model_copy(update={"data": str(tmp_path / "lights")}).prepare(tmp_path / "out")
    evaluator = SignalEvaluator(read_card(tmp_path / "out" / "assets")["signals"])
    green, red, _ = np.eye(3)
    for row, (true, said) in enumerate([(1, green), (1, red), (1, green), (0, green), (2, red)]):
        evaluator.add(row, {"signal": np.array(true)}, {"probabilities": said})
    measured = evaluator.scores()
    assert measured["red_as_green"] == 2 and measured["recall/red"] == pytest.approx(1 / 3)
    assert measured["macro_recall"] == pytest.approx((1 / 3 + 1 + 0) / 3) and measured["accuracy"] == pytest.approx(2 / 5)


def test_lights_train_together_with_roads(tmp_path: Path) -> None:
    from tests.usecases.driving_perception.roads import camvid_of_segnet

    lights(tmp_path / "lights")
    camvid_of_segnet(tmp_path / "roads")
    usecase = DrivingPerception(data=f"{tmp_path / 'roads'},{tmp_path / 'lights'}", channels=8)
    resolved = usecase.resolve(usecase.prepare(tmp_path / "out"))
    assert isinstance(resolved, DrivingPerception) and resolved.heads == ("mask", "signal") and resolved.monitor == "mean_of_heads"
    train = StoredScenes(tmp_path / "out" / "train")
    rows = np.array([train.rows_with("mask")[0], train.rows_with("signal")[0]])
    network = resolved.network(tmp_path / "out" / "assets")
    resolved.loss(network, {name: torch.from_numpy(array) for name, array in train.batch(rows).items()}).backward()
    assert resolved.score(torch_predict(resolved, network.eval()), tmp_path / "out", "test").keys() >= {
        "miou",
        "macro_recall",
        "mean_of_heads",
    }


@pytest.mark.parametrize("what", ["one kind", "list without classes"])
def test_what_cannot_be_learnt_from_is_refused(what: str, tmp_path: Path) -> None:
    if what == "one kind":
        (tmp_path / "data" / "stop").mkdir(parents=True)
        light("red", 0).save(tmp_path / "data" / "stop" / "a.png")
    else:
        gtsrb(tmp_path / "data")
        listed = tmp_path / "data" / "GTSRB" / "Final_Test" / "Images" / "GT-final_test.csv"
        listed.write_text("\n".join(line.rpartition(";")[0] for line in listed.read_text().splitlines()))
    with pytest.raises(DataError, match="No images with masks" if what == "one kind" else "image without a class in the list next to it"):
        SMALL.model_copy(update={"data": str(tmp_path / "data")}).prepare(tmp_path / "out")
