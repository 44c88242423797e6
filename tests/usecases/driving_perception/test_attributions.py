"""What the network looks at: heat that adds up, for every head."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.attributions import attributions
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.heat import Evidence, hires_cam, integrated_gradients
from usecases.driving_perception.network import RoadNetwork

SMALL = DrivingPerception(channels=16, dropout=0.0, heads=("mask", "boxes", "steering"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[RoadNetwork, Path]:
    folder = tmp_path_factory.mktemp("sample")
    SMALL.prepare(folder)
    torch.manual_seed(0)
    network, examples = cast(RoadNetwork, SMALL.network(folder / "assets")).train(), SMALL.examples(folder, "train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.005)
    for step in range(15):
        rows = np.random.default_rng(step).choice(len(examples), 8, replace=False)
        SMALL.loss(network, {name: torch.from_numpy(array) for name, array in examples.batch(rows).items()}).backward()
        optimizer.step()
        optimizer.zero_grad()
    return network.eval(), folder


def pixels(folder: Path, row: int = 0) -> torch.Tensor:
    return torch.from_numpy(SMALL.examples(folder, "test").batch(np.array([row]))["image"]).float() / 255


def test_integrated_gradients_add_up_to_the_turn(sample: tuple[RoadNetwork, Path]) -> None:
    network, folder = sample
    image = pixels(folder)
    with torch.no_grad():
        plain = image.mean((2, 3), keepdim=True).expand_as(image)
        turn = float(Evidence(network, HEADS["steering"], 0)(image) - Evidence(network, HEADS["steering"], 0)(plain))
    assert integrated_gradients(network, HEADS["steering"], image).sum() == pytest.approx(turn, abs=0.05 + 0.1 * abs(turn))


class LightAndDark(torch.nn.Module):
    """Knows two classes, what is light and what is dark, by a feature of each."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.backbone, self.bias = torch.nn.Module(), bias
        self.heads = torch.nn.ModuleDict({"mask": torch.nn.Identity()})
        self.backbone.stages = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.AvgPool2d(8)])

    def forward(self, image: torch.Tensor) -> dict[str, tuple[torch.Tensor]]:
        light = image.mean(1, keepdim=True)
        for stage in cast(torch.nn.ModuleList, self.backbone.stages):
            light = stage(torch.cat([light, 1 - light], 1) if light.shape[1] == 1 else light)
        return {"mask": (light + self.bias,)}


@pytest.mark.parametrize("bias", [0.0, -5.0])
def test_the_heat_of_a_class_is_where_it_is(bias: float) -> None:
    """Also where the network has little to say for any class: one of them is the likeliest nevertheless."""
    network = cast(RoadNetwork, LightAndDark(bias))
    image = torch.zeros(1, 3, 120, 160)
    image[:, :, :40] = 1
    light, dark = (hires_cam(network, HEADS["mask"], number, image) for number in range(2))
    assert light.shape == dark.shape == (15, 20)
    assert (light[:5] == 1).all() and not light[5:].any() and np.array_equal(dark, 1 - light)


def test_every_head_has_its_gallery(sample: tuple[RoadNetwork, Path]) -> None:
    blocks = attributions(*sample)
    assert [block["title"] for block in blocks] == ["Evidence for classes", "Evidence for objects", "Evidence for the steering"]
    assert all(item["image"].startswith("data:image") for block in blocks for item in block["items"])
