"""What a bundle sees, drawn over pictures and videos, by the command itself."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.exporting.export import write_graph
from tests.usecases.driving_perception.roads import save
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.codec import unpacked
from usecases.driving_perception.overlay import following
from usecases.driving_perception.sample import draw
from usecases.images import as_png, decode

ROOT = Path(__file__).parents[3]
FRAMES = 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of all heads."""
    import json

    folder = tmp_path_factory.mktemp("overlay")
    usecase = DrivingPerception(channels=8, heads=("mask", "boxes", "steering"))
    usecase.prepare(folder)
    torch.manual_seed(0)
    network = usecase.network(folder / "assets").eval()
    write_graph(usecase, network, {"image": usecase.examples(folder, "test").batch(np.arange(2))["image"]}, folder / "model.onnx")
    (folder / "usecase.json").write_text(json.dumps(usecase.settings()))
    return folder


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    for frame in range(FRAMES):
        save(np.asarray(Image.fromarray(draw("day", 0, frame).picture).resize((320, 240))), tmp_path / "drive" / f"{frame:03d}.png")
    return tmp_path / "drive"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "usecases.driving_perception.overlay", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_pictures_become_pictures_of_the_same_size(bundle: Path, drive: Path, tmp_path: Path) -> None:
    done = run(bundle, drive, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for word in (f"{FRAMES} frames", "per second", "trusted", "advice: ", "flicker: "):
        assert word in done.stdout
    drawn = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in drawn] == [f"{frame:03d}.png" for frame in range(FRAMES)]
    with Image.open(drawn[0]) as picture, Image.open(drive / "000.png") as before:
        assert picture.size == (320, 240) and (np.asarray(picture) != np.asarray(before)).any()


def test_pictures_become_a_video_and_a_video_pictures(bundle: Path, drive: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    assert run(bundle, drive, tmp_path / "out.mp4").returncode == 0
    done = run(bundle, tmp_path / "out.mp4", tmp_path / "again")
    assert done.returncode == 0 and len(list((tmp_path / "again").iterdir())) == FRAMES, done.stderr


def test_frames_that_follow_on_one_another_are_asked_for_together(drive: Path) -> None:
    first, second = ((drive / f"{frame:03d}.png").read_bytes() for frame in range(2))
    before = deque[bytes](maxlen=2)
    assert following(first, decode(first), before) == first
    for _ in range(3):
        assert unpacked(following(second, decode(second), before)).image == second
    asked = unpacked(following(second, decode(second), before))
    assert [decode(one).size for one in asked.before] == [(160, 120)] * 2, "reduced"
    wide = as_png(decode(first).resize((64, 32)))
    assert following(wide, decode(wide), before) == wide, "of another camera"
    assert following(first, decode(first), deque(maxlen=0)) == first, "nobody asks for the turns"


def test_what_cannot_be_drawn_over_is_said(bundle: Path, drive: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    for frames, words in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "broken.mp4", "cannot be read as a video"),
        (tmp_path / "empty", "There is no image in"),
    ):
        done = run(bundle, frames, tmp_path / "out")
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
