"""Several data sets at once: each trains the heads that it knows something for, on one backbone."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.compression.intermediate import projections
from tasks.training.predicting import torch_predict
from tests.tiers import matrix
from tests.usecases.driving_perception.roads import camvid_of_segnet
from tests.usecases.driving_perception.test_boxes import kitti
from tests.usecases.driving_perception.test_steering import tub
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.codec import RoadCodec, doubts_of
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.network import RoadNetwork
from usecases.driving_perception.scenes import IGNORED, StoredScenes

ALL = ("mask", "boxes", "steering")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[DrivingPerception, Path]:
    folder = tmp_path_factory.mktemp("several")
    for layout in (camvid_of_segnet, kitti, tub):
        layout(folder / layout.__name__)
    data = ", ".join(str(folder / layout.__name__) for layout in (camvid_of_segnet, kitti, tub))
    usecase = DrivingPerception(data=data, channels=8, dropout=0.0)
    card = usecase.prepare(folder / "out")
    assert card["heads"] == list(ALL) and "KITTI" in card["layout"] and "Donkeycar" in card["layout"]
    settled = usecase.resolve(card)
    assert isinstance(settled, DrivingPerception) and settled.monitor == "mean_of_heads"
    return settled, folder / "out"


def test_every_frame_knows_what_its_own_data_set_knows(several: tuple[DrivingPerception, Path]) -> None:
    scenes = StoredScenes(several[1] / "train")
    rows = {head: scenes.rows_with(head) for head in ALL}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(scenes))), "each of one data set"
    batch = scenes.batch(np.arange(len(scenes)))
    assert (batch["mask"][rows["mask"]] != IGNORED).any() and (batch["mask"][rows["boxes"]] == IGNORED).all()
    assert batch["boxed"].nonzero()[0].tolist() == rows["boxes"].tolist()
    assert np.isnan(batch["values"][rows["mask"]]).all() and not np.isnan(batch["values"][rows["steering"]]).any()


@pytest.mark.parametrize("head", ALL)
def test_frames_train_only_the_heads_that_they_know_something_for(head: str, several: tuple[DrivingPerception, Path]) -> None:
    usecase, folder = several
    torch.manual_seed(0)
    network, scenes = cast(RoadNetwork, usecase.network(folder / "assets")).train(), StoredScenes(folder / "train")
    batch = {name: torch.from_numpy(array) for name, array in scenes.batch(scenes.rows_with(head)[:8]).items()}
    usecase.loss(network, batch).backward()
    for name, module in network.heads.items():
        moved = any(p.grad is not None and bool(p.grad.abs().sum()) for p in module.parameters())
        assert moved == (name == head)
        assert all(p.grad is not None for p in module.parameters()), "ranks that train together wait for every gradient"


def test_every_head_is_scored(several: tuple[DrivingPerception, Path]) -> None:
    usecase, folder = several
    network = usecase.network(folder / "assets").eval()
    found = usecase.score(torch_predict(usecase, network), folder, "test")
    assert found["mean_of_heads"] == pytest.approx(np.mean([found["miou"], found["map"], found["steering_r2"]]))


def test_some_heads_can_be_chosen(several: tuple[DrivingPerception, Path], tmp_path: Path) -> None:
    chosen = several[0].model_copy(update={"heads": ("boxes",)})
    card = chosen.prepare(tmp_path)
    assert card["heads"] == ["boxes"] and sum(card["sizes"].values()) == 12


def test_a_picture_of_any_of_the_shapes_is_not_doubted_for_it(tmp_path: Path) -> None:
    for name in ("usual", "wide"):
        camvid_of_segnet(tmp_path / name)
    for path in [*(tmp_path / "wide").rglob("*.jpg"), *(tmp_path / "wide").rglob("*.png")]:
        Image.open(path).resize((330, 100), Image.Resampling.NEAREST).save(path)
    DrivingPerception(data=f"{tmp_path / 'usual'},{tmp_path / 'wide'}").prepare(tmp_path / "out")
    ratios = RoadCodec(tmp_path / "out" / "assets").card["ratios"]
    texture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8))
    for size, doubted in (((160, 120), False), ((330, 100), False), ((100, 300), True)):
        assert any("aspect ratio" in doubt for doubt in doubts_of(texture.resize(size), ratios)) == doubted


@pytest.mark.parametrize("temperature", matrix([1.0, 4.0], keep=0))
def test_a_student_comes_to_think_as_its_teacher_with_every_head(temperature: float, several: tuple[DrivingPerception, Path]) -> None:
    usecase, folder = several
    torch.manual_seed(0)
    teacher, student = (cast(RoadNetwork, usecase.network(folder / "assets")).eval() for _ in range(2))
    scenes = StoredScenes(folder / "train")
    image = torch.from_numpy(scenes.batch(np.arange(4))["image"])
    with torch.no_grad():
        wanted = teacher(image)

    def distances(network: RoadNetwork) -> dict[str, torch.Tensor]:
        said = network(image)
        return {name: HEADS[name].distance(said[name], wanted[name], temperature) for name in said}

    torch.stack(list(distances(teacher).values())).sum().backward()
    assert max(float(p.grad.abs().max()) for p in teacher.parameters() if p.grad is not None) < 1e-4, "who agrees has nothing to learn"
    before = {name: float(value) for name, value in distances(student).items()}
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack([far / before[name] for name, far in distances(student).items()]).sum().backward()
        optimizer.step()
    after = {name: float(value) for name, value in distances(student).items()}
    assert all(after[name] < 0.5 * before[name] for name in ALL), (before, after)


def test_a_student_is_smaller_and_taught_on_the_frames_that_its_teacher_sees(several: tuple[DrivingPerception, Path]) -> None:
    usecase, folder = several
    large = usecase.model_copy(update={"channels": 24})
    small = large.student_usecase()
    assert isinstance(small, DrivingPerception) and small.channels == 16 and usecase.student_usecase() is None
    student, teacher = small.network(folder / "assets"), large.network(folder / "assets").eval()
    batch = {name: torch.from_numpy(array) for name, array in StoredScenes(folder / "train").batch(np.arange(4)).items()}
    small.distillation_loss(student, teacher, batch, 0.5, 2.0).backward()
    assert all(p.grad is not None for p in student.parameters()) and all(p.grad is None for p in teacher.parameters())
    beside = projections(small, student, teacher, small.calibration_inputs(folder, np.arange(2)))
    assert [tuple(layer.weight.shape) for layer in beside if isinstance(layer, torch.nn.Linear)] == [(24, 16), (48, 32), (80, 48)]
