"""Image and mask move together, what counts for nothing counts for nothing, the graph is torch's twin, and scenes are learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tasks.exporting.export import check_parity, check_symbolic_axes, write_graph
from tests.tiers import matrix
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.augment import augmented, recoloured
from usecases.driving_perception.heads.boxes.network import cut_boxes
from usecases.driving_perception.heads.mask.network import cut_mask, pixel_loss
from usecases.driving_perception.heads.mask.scores import iou, mean_iou, overlaps
from usecases.driving_perception.network import RoadBackbone, RoadNetwork
from usecases.driving_perception.scenes import IGNORED, NOTHING, UNCOUNTED
from usecases.driving_perception.scores import scores
from usecases.driving_perception.window import View, Window, cut, draw_window

SMALL = DrivingPerception(channels=16, heads=("mask",))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    SMALL.prepare(folder)
    return folder


@pytest.mark.parametrize(("crop", "zoom"), [(1.0, 0.0), (0.6, 0.0), (0.7, 0.4)])
def test_image_mask_and_boxes_are_cut_alike(crop: float, zoom: float) -> None:
    torch.manual_seed(0)
    mask = torch.randint(0, 5, (4, 6, 8), dtype=torch.uint8).repeat_interleave(16, 1).repeat_interleave(16, 2)
    mask[:, 30:60, 50:90] = 9
    image = (mask.float() / 10)[:, None].repeat(1, 3, 1, 1)
    out = [round(crop * 96), round(crop * 128)]
    window = draw_window((96, 128), out, zoom, True, torch.zeros(4, dtype=torch.bool))
    view = View(window, (96, 128), (out[0], out[1]), torch.zeros(4, dtype=torch.bool))
    found, label = cut(image, window, out), cut_mask(mask, view)
    boxes = cut_boxes(torch.tensor([[[9.0, 50, 30, 90, 60], [-1, 0, 0, 0, 0]]]).repeat(4, 1, 1), view)
    known = label != IGNORED
    assert known.float().mean() > 0.5
    agree = (found[:, 0] * 10 - label).abs()[known] < 0.5  # but where two classes meet
    assert agree.float().mean() > 0.9
    assert (boxes[:, 1, 0] < 0).all()
    for row in range(4):
        rows, columns = torch.nonzero(label[row] == 9, as_tuple=True)
        if boxes[row, 0, 0] == 9:
            expected = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            assert boxes[row, 0, 1:] == pytest.approx(expected, abs=1.6)


def test_what_is_hardly_seen_any_more_counts_for_nothing() -> None:
    aside = Window(torch.full((1, 2), 0.5), torch.full((1, 2), -0.5), torch.ones(1), torch.zeros(1))  # the quarter at the upper left
    boxes = torch.tensor([[[2.0, 40, 10, 60, 20], [2, 48, 10, 50.5, 20], [2, 44, 10, 76, 20], [2, 80, 10, 90, 20]]])
    found = cut_boxes(boxes, View(aside, (100, 100), (100, 100), torch.zeros(1, dtype=torch.bool)))[0]
    assert found[:, 0].tolist() == [2, 2, UNCOUNTED, NOTHING]
    assert found[0, 1:] == pytest.approx(torch.tensor([80.0, 20, 100, 40]))


def test_steering_turns_with_the_mirror_and_is_unknown_where_the_view_moved() -> None:
    torch.manual_seed(0)
    batch = {"image": torch.zeros(64, 3, 32, 32, dtype=torch.uint8), "values": torch.tensor([[0.5, 0.2]]).repeat(64, 1)}
    alone = augmented(SMALL, batch)["values"]
    assert set(alone[:, 0].tolist()) == {0.5, -0.5} and (alone[:, 1] == 0.2).all()
    beside = augmented(SMALL, {**batch, "mask": torch.zeros(64, 32, 32, dtype=torch.uint8)})["values"]
    assert 0.2 < beside[:, 0].isnan().float().mean() < 0.8


def test_colour_changes_and_keeps_its_bounds() -> None:
    image = torch.rand(3, 3, 8, 8)
    changed = recoloured(image, 0.5)
    assert changed.shape == image.shape and (changed != image).any() and changed.min() >= 0 and changed.max() <= 1
    assert recoloured(image, 0.0) is image


def test_what_is_ignored_counts_for_nothing() -> None:
    logits, mask = torch.randn(2, 4, 6, 6), torch.randint(0, 4, (2, 6, 6))
    mask[:, :3] = IGNORED
    changed = logits.clone()
    changed[:, :, :3] += 5
    for balanced in (True, False):
        assert pixel_loss(logits, mask, balanced) == pytest.approx(float(pixel_loss(changed, mask, balanced)))
    assert float(pixel_loss(logits, torch.full_like(mask, IGNORED), True)) == 0


def test_rare_classes_weigh_more() -> None:
    mask = torch.zeros(1, 10, 10, dtype=torch.long)
    mask[0, 0, 0] = 1
    wrong_there = torch.zeros(1, 2, 10, 10)
    wrong_there[:, 0] = 3.0  # says 0 everywhere: right but for one pixel
    assert pixel_loss(wrong_there, mask, True) > 2 * pixel_loss(wrong_there, mask, False)


def test_the_intersection_over_union_is_that_of_the_field() -> None:
    confusion = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    found = iou(overlaps(confusion))
    assert found[:2] == pytest.approx([3 / 6, 4 / 7]) and np.isnan(found[2])
    assert mean_iou(overlaps(confusion)) == pytest.approx((3 / 6 + 4 / 7) / 2)


def test_a_perfect_mask_scores_one(sample: Path) -> None:
    masks = {image.tobytes(): mask for image, mask in _scenes(sample)}

    def perfect(inputs: dict[str, Any]) -> dict[str, Any]:
        mask = np.stack([masks[image.tobytes()] for image in inputs["image"]]).astype(np.int64)
        return {"mask": mask, "sure": np.ones(mask.shape, dtype=np.float32)}

    found = scores(perfect, sample, "test")
    assert found["miou"] == found["pixel_accuracy"] == found["miou/night"] == found["iou/road"] == 1.0 and found["ece"] == 0.0


def _scenes(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    batch = SMALL.examples(folder, "test").batch(np.arange(64))
    return list(zip(batch["image"], batch["mask"], strict=True))


@pytest.mark.parametrize("size", matrix([(90, 162), (120, 160)]))
def test_the_graph_is_the_twin_of_the_network(size: tuple[int, int], sample: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = cast(RoadNetwork, SMALL.network(sample / "assets")).eval()
    images = SMALL.examples(sample, "test").batch(np.arange(7))["image"]
    inputs = {"image": np.ascontiguousarray(np.resize(images, (7, 3, *size)))}
    write_graph(SMALL, network, {"image": inputs["image"][:2]}, tmp_path / "model.onnx")
    check_symbolic_axes(tmp_path / "model.onnx")
    check_parity(SMALL, network, inputs, tmp_path / "model.onnx")


@pytest.mark.slow
def test_scenes_are_learnt(sample: Path) -> None:
    torch.manual_seed(0)
    network = SMALL.network(sample / "assets").train()
    batch = {name: torch.from_numpy(array) for name, array in SMALL.examples(sample, "train").batch(np.arange(0, 192, 16)).items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss = SMALL.loss(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


@pytest.mark.parametrize("channels", [8, 24, 40, 48, 56])
def test_dilated_convolutions_have_whole_blocks_of_channels(channels: int) -> None:
    """With others bf16 gradients are wrong on CPUs; see `usecases.convolutions.whole_blocks`."""
    backbone = RoadBackbone(channels, [0.5] * 3, [0.2] * 3)
    dilated = [module for module in backbone.modules() if isinstance(module, torch.nn.Conv2d) and module.dilation != (1, 1)]
    assert dilated and all(module.in_channels % 16 == module.out_channels % 16 == 0 for module in dilated)
