"""What the network looks at: gradients of a class or a value, as heat over pictures of a split. For heads to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradientXActivation
from PIL import Image
from torch import Tensor, nn

from usecases import charts
from usecases.driving_perception.heads.head import Head
from usecases.driving_perception.pictures import WIDE
from usecases.driving_perception.scenes import StoredScenes

if TYPE_CHECKING:
    from usecases.driving_perception.network import RoadNetwork

SHOWN = 3  # pictures of a value
STEPS = 16  # of the path that integrated gradients follow
SMALL = 8  # pixels of the patches over which these are added up: single pixels show nothing
BLEND = 0.6


def class_gallery(
    network: RoadNetwork,
    head: Head,
    scenes: StoredScenes,
    classes: Sequence[str],
    rows: Mapping[int, Sequence[int]],
    title: str,
    caption: str,
) -> dict[str, Any]:
    """HiResCAM (Draelos 2020) of one picture of each class: of the middle one of the `rows` that show it."""
    items = [
        _item(scenes, row, hires_cam(network, head, number, _pixels(scenes, row)), classes[number])
        for number, shown in rows.items()
        for row in _spread(shown, 1)
    ]
    return _gallery(title, caption, items)


def value_gallery(
    network: RoadNetwork, head: Head, scenes: StoredScenes, lines: Mapping[int, str], title: str, meaning: str, note: str
) -> dict[str, Any]:
    """Integrated gradients (Sundararajan 2017) of a head's first value.

    Args:
        network: of all heads.
        head: whose value is explained.
        scenes: the pictures.
        lines: the words below a picture, by its row, in the order of the value; a few of them are shown.
        title: of the gallery.
        meaning: what red and blue are.
        note: a further sentence of the caption.
    """
    items = []
    for row in _spread(list(lines), SHOWN):
        heat = _patched(integrated_gradients(network, head, _pixels(scenes, row)))
        items.append(_item(scenes, row, heat / max(float(np.abs(heat).max()), 1e-9), lines[row]))
    return _gallery(title, f"Integrated gradients: {meaning}; patches of {SMALL} pixels. {note}".strip(), items)


class Evidence(nn.Module):
    """Pixels, float [N, 3, H, W] in [0, 1], to what speaks in each picture for a class or value of a head, [N]."""

    def __init__(self, network: RoadNetwork, head: Head, number: int) -> None:
        super().__init__()
        self.network, self.head, self.number = network, head, number

    def forward(self, image: Tensor) -> Tensor:
        predictions = self.network(image)[self.head.name]
        return self.head.evidence(self.network.heads[self.head.name], predictions, self.number)


def hires_cam(network: RoadNetwork, head: Head, number: int, image: Tensor) -> np.ndarray:
    """[h, w] in [0, 1]: the features at an eighth of the resolution, each weighed at its place by how much it speaks for it.

    Grad-CAM weighs a feature alike at all places, which for what is said of some of them may leave nothing.
    """
    layer = network.backbone.stages[1]
    evidence = LayerGradientXActivation(Evidence(network, head, number), layer).attribute(image)
    assert isinstance(evidence, Tensor)
    found = evidence.detach()[0].sum(0).relu().numpy()
    return found / max(float(found.max()), 1e-9)


def integrated_gradients(network: RoadNetwork, head: Head, image: Tensor) -> np.ndarray:
    """[H, W]: how much each pixel moved the first value from that of the mean colour; they add up to the whole difference."""
    baseline = image.mean((2, 3), keepdim=True).expand_as(image)
    found = IntegratedGradients(Evidence(network, head, 0)).attribute(image, baseline, n_steps=STEPS, internal_batch_size=1)
    return found.detach()[0].sum(0).numpy()


def _spread(rows: Sequence[int], count: int) -> list[int]:
    return [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, count + 2).round().astype(int)[1:-1])] if rows else []


def _pixels(scenes: StoredScenes, row: int) -> Tensor:
    return torch.from_numpy(scenes.arrays["image"][[row]]).float() / 255


def _patched(values: np.ndarray) -> np.ndarray:
    height, width = (side - side % SMALL for side in values.shape)
    return values[:height, :width].reshape(height // SMALL, SMALL, width // SMALL, SMALL).sum((1, 3))


def _item(scenes: StoredScenes, row: int, heat: np.ndarray, line: str) -> dict[str, Any]:
    """A picture under its heat, [h, w] in [-1, 1]: red above zero, blue below."""
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
