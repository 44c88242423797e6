"""Scenarios: detected from names, scored one by one, and adapted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.contract.errors import DataError
from tasks.training.predicting import torch_predict
from tests.usecases.driving_perception.roads import camvid_of_segnet, save
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.frames import scenario_of
from usecases.driving_perception.sample import draw
from usecases.driving_perception.scenes import StoredScenes

SMALL = DrivingPerception(channels=8)


def adverse(folder: Path) -> None:
    """Images with masks, their scenario in the names of folders (as of ACDC, Sakaridis 2021), a recording of each."""
    for scenario in ("day", "night"):
        for recording in range(8):
            for frame in range(2):
                drawn = draw(scenario, recording, frame)
                name = f"{recording:02d}_{frame:04d}.png"
                save(drawn.picture, folder / "images" / scenario / name)
                save(drawn.mask, folder / "masks" / scenario / name)
    (folder / "classes.txt").write_text("\n".join(f"kind{number}" for number in range(9)))


@pytest.mark.parametrize(
    ("name", "scenario"),
    [
        ("rgb_anon/night/train/GOPR0351/frame_001.png", "night"),
        ("images/rain_0012.jpg", "rain"),
        ("train/0001TP_006690.jpg", ""),
        ("daylight/a.png", ""),
        ("fog/night_3.png", "night"),
    ],
)
def test_a_scenario_is_a_word_in_the_name(name: str, scenario: str) -> None:
    assert scenario_of(name) == scenario


def test_what_is_adapted_to_is_known_and_scored_by_itself(tmp_path: Path) -> None:
    adverse(tmp_path / "data")
    usecase = SMALL.model_copy(update={"data": str(tmp_path / "data"), "scenario": "night"})
    settled = usecase.resolve(usecase.prepare(tmp_path / "out"))
    assert isinstance(settled, DrivingPerception) and settled.monitor == "miou/night"
    train = StoredScenes(tmp_path / "out" / "train")
    focus = settled.focus(tmp_path / "out")
    assert focus is not None and {train.names()[row].split("/")[1] for row in focus} == {"night"} and 0 < len(focus) < len(train)
    measured = settled.score(torch_predict(settled, settled.network(tmp_path / "out" / "assets").eval()), tmp_path / "out", "test")
    assert {"miou", "miou/day", "miou/night"} <= measured.keys()
    assert SMALL.focus(tmp_path / "out") is None


def test_a_data_folder_can_be_adapted_to(tmp_path: Path) -> None:
    camvid_of_segnet(tmp_path / "broad")
    camvid_of_segnet(tmp_path / "own")
    for path in (tmp_path / "own").rglob("*.jpg"):  # or they would be copies of the same pictures
        picture = np.random.default_rng(0).integers(0, 9, (120, 160, 3)) + draw(
            "rain", len(path.parent.name), int(path.stem[-2:])
        ).picture.clip(0, 240)
        save(picture.astype(np.uint8), path)
    usecase = SMALL.model_copy(update={"data": f"{tmp_path / 'broad'},{tmp_path / 'own'}", "scenario": "own"})
    usecase.prepare(tmp_path / "out")
    focus = usecase.focus(tmp_path / "out")
    assert focus is not None and len(focus) == 12 and set(StoredScenes(tmp_path / "out" / "train").slices()) == {"broad", "own"}


def test_a_scenario_that_is_not_there_is_refused(tmp_path: Path) -> None:
    adverse(tmp_path / "data")
    with pytest.raises(DataError, match=r"--usecase.scenario dusk: of the .* 0 belong to it \(.*night"):
        SMALL.model_copy(update={"data": str(tmp_path / "data"), "scenario": "dusk"}).prepare(tmp_path / "out")
