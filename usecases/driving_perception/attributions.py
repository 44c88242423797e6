"""What the network looks at: gradients of a class, of a kind of object, or of the steering, as heat over pictures of the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradientXActivation
from PIL import Image
from torch import Tensor, nn

from usecases import charts
from usecases.driving_perception.heads.steering.network import SteeringHead
from usecases.driving_perception.network import RoadNetwork
from usecases.driving_perception.scenes import IGNORED, StoredScenes, read_card

SHOWN, CLASSES = 3, 4  # pictures of each, and of how many classes
STEPS = 16  # of the path that integrated gradients follow
SMALL = 8  # pixels of the patches over which these are added up: single pixels show nothing
BLEND = 0.6
WIDE = 480


def attributions(network: RoadNetwork, folder: Path) -> list[dict[str, Any]]:
    """A gallery for each head: HiResCAM (Draelos 2020) of what it names, integrated gradients (Sundararajan 2017) of the steering."""
    card, scenes = read_card(folder / "assets"), StoredScenes(folder / "test")
    network.eval()
    blocks = []
    if "mask" in network.heads:
        items = [item for number, name in _frequent(scenes, card["classes"]) for item in _of_class(network, scenes, number, name)]
        blocks.append(_gallery("What a class is seen by", "HiResCAM: where features speak for the class, red.", items))
    if "boxes" in network.heads:
        items = [item for number, name in enumerate(card["objects"][:CLASSES]) for item in _of_object(network, scenes, number, name)]
        blocks.append(_gallery("What objects are found by", "HiResCAM of the surest middle of a box: red speaks for it.", items))
    if "steering" in network.heads:
        items = _of_steering(network, scenes)
        trust = float(cast(SteeringHead, network.head("steering")).trust)
        caption = (
            f"Integrated gradients: red speaks for steering right, blue for left; patches of {SMALL} pixels. "
            f"Pictures are trusted to {trust:.0%} beside what else is known, as validation bears them out."
        )
        blocks.append(_gallery("What is steered by", caption, items))
    if "signal" in network.heads:
        items = [item for number, name in enumerate(card["signals"]) for item in _of_signal(network, scenes, number, name)]
        blocks.append(_gallery("What a sign or light is known by", "HiResCAM: where features speak for it, red.", items[: 2 * CLASSES]))
    return [block for block in blocks if block["items"]]


class Spoken(nn.Module):
    """Pixels, float [N, 3, H, W] in [0, 1], to one number for each picture, of what one head says."""

    def __init__(self, network: RoadNetwork, head: str, number: int) -> None:
        super().__init__()
        self.network, self.head, self.number = network, head, number

    def forward(self, image: Tensor) -> Tensor:
        said = self.network(image)[self.head]
        if self.head == "steering":
            return self.network.head(self.head).answers(said)[0][:, self.number]
        logits, said = said[0], said[0][:, self.number]
        if self.head == "mask":  # where that class is the likeliest (Vinogradova 2020), or everywhere
            chosen = (logits.argmax(1) == self.number).flatten(1)
            chosen = chosen | ~chosen.any(1, keepdim=True)
            return (said.flatten(1) * chosen).sum(1) / chosen.sum(1)
        return said.flatten(1).max(1).values if self.head == "boxes" else said


def hires_cam(network: RoadNetwork, head: str, number: int, image: Tensor) -> np.ndarray:
    """[h, w] in [0, 1]: the features at an eighth of the resolution, each weighed at its place by how much it speaks for it.

    Grad-CAM weighs a feature alike at all places, which for what is said of some of them may leave nothing.
    """
    layer = network.backbone.stages[1]
    spoken = LayerGradientXActivation(Spoken(network, head, number), layer).attribute(image)
    assert isinstance(spoken, Tensor)
    found = spoken.detach()[0].sum(0).relu().numpy()
    return found / max(float(found.max()), 1e-9)


def integrated_gradients(network: RoadNetwork, image: Tensor) -> np.ndarray:
    """[H, W]: how much each pixel turned the steering from that of the mean colour; they add up to the whole turn."""
    baseline = image.mean((2, 3), keepdim=True).expand_as(image)
    found = IntegratedGradients(Spoken(network, "steering", 0)).attribute(image, baseline, n_steps=STEPS, internal_batch_size=1)
    return found.detach()[0].sum(0).numpy()


def _frequent(scenes: StoredScenes, classes: list[str]) -> list[tuple[int, str]]:
    rows = scenes.rows_with("mask")[::10]
    masks = scenes.arrays["mask"][rows]
    counts = np.bincount(masks[masks != IGNORED], minlength=len(classes))
    return [(int(number), classes[number]) for number in np.argsort(-counts, kind="stable")[:CLASSES] if counts[number]]


def _of_class(network: RoadNetwork, scenes: StoredScenes, number: int, name: str) -> list[dict[str, Any]]:
    rows = [row for row in scenes.rows_with("mask") if (scenes.arrays["mask"][row] == number).any()]
    return [_item(scenes, row, hires_cam(network, "mask", number, _pixels(scenes, row)), name) for row in _spread(rows, 1)]


def _of_object(network: RoadNetwork, scenes: StoredScenes, number: int, name: str) -> list[dict[str, Any]]:
    rows = [row for row in scenes.rows_with("boxes") if (scenes.arrays["boxes"][row][:, 0] == number).any()]
    return [_item(scenes, row, hires_cam(network, "boxes", number, _pixels(scenes, row)), name) for row in _spread(rows, 1)]


def _of_signal(network: RoadNetwork, scenes: StoredScenes, number: int, name: str) -> list[dict[str, Any]]:
    rows = np.flatnonzero(scenes.arrays["signal"][:] == number).tolist()
    return [_item(scenes, row, hires_cam(network, "signal", number, _pixels(scenes, row)), name) for row in _spread(rows, 1)]


def _of_steering(network: RoadNetwork, scenes: StoredScenes) -> list[dict[str, Any]]:
    """Of moments of left, middle and right."""
    rows = scenes.rows_with("steering")
    order = rows[np.argsort(scenes.arrays["values"][rows, 0], kind="stable")]
    items = []
    for row in _spread(order.tolist(), SHOWN):
        driven = float(scenes.arrays["values"][row, 0])
        heat = _patched(integrated_gradients(network, _pixels(scenes, row)))
        items.append(_item(scenes, row, heat / max(float(np.abs(heat).max()), 1e-9), f"driver {driven:+.2f}"))
    return items


def _spread(rows: list[int], count: int) -> list[int]:
    return [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, count + 2).round().astype(int)[1:-1])] if rows else []


def _pixels(scenes: StoredScenes, row: int) -> Tensor:
    return torch.from_numpy(scenes.arrays["image"][[row]]).float() / 255


def _patched(values: np.ndarray) -> np.ndarray:
    height, width = (side - side % SMALL for side in values.shape)
    return values[:height, :width].reshape(height // SMALL, SMALL, width // SMALL, SMALL).sum((1, 3))


def _item(scenes: StoredScenes, row: int, heat: np.ndarray, line: str) -> dict[str, Any]:
    """A picture under its heat, [h, w] in [-1, 1]: red above nought, blue below."""
    picture = scenes.arrays["image"][row].transpose(1, 2, 0)
    size = (picture.shape[1], picture.shape[0])
    strength = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))[..., None]
    grey = picture.mean(2, keepdims=True).repeat(3, 2)
    ink = np.where(strength > 0, [225, 40, 40], [50, 90, 230])
    over = BLEND * np.abs(strength)
    painted = ((1 - over) * grey + over * ink).round().clip(0, 255).astype(np.uint8)
    name = scenes.names()[row]
    return {"image": charts.picture(painted, WIDE), "alt": f"{name}: {line}", "lines": [line, name]}


def _gallery(title: str, caption: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"kind": "gallery", "large": True, "title": title, "caption": caption, "items": items}
