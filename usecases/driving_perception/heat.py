"""Attributions: HiResCAM and integrated gradients as heatmaps over images of a split, for the galleries of heads."""

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

SHOWN = 3  # images of a value
STEPS = 16  # of the integral
SMALL = 8  # pixels: side of the patches over which attributions are summed, since those of single pixels are noisy
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
    """A gallery of HiResCAM (Draelos 2020) with one image of each class.

    Args:
        network: in evaluation mode.
        head: whose classes are explained.
        scenes: the split.
        classes: names of the classes.
        rows: for each class, by its number, the images that show it; the middle one is used.
        title: of the gallery.
        caption: of the gallery.

    Returns:
        A block of kind gallery.
    """
    items = [
        _item(scenes, row, hires_cam(network, head, number, _pixels(scenes, row)), classes[number])
        for number, shown in rows.items()
        for row in _spread(shown, 1)
    ]
    return _gallery(title, caption, items)


def value_gallery(
    network: RoadNetwork, head: Head, scenes: StoredScenes, lines: Mapping[int, str], title: str, meaning: str, note: str
) -> dict[str, Any]:
    """A gallery of integrated gradients (Sundararajan 2017) of a head's first value.

    Args:
        network: in evaluation mode.
        head: whose value is explained.
        scenes: the split.
        lines: the text below each image, by its row, in the order of the value; three of them are shown.
        title: of the gallery.
        meaning: of red and blue, for the caption.
        note: a further sentence of the caption.

    Returns:
        A block of kind gallery.
    """
    items = []
    for row in _spread(list(lines), SHOWN):
        heat = _patched(integrated_gradients(network, head, _pixels(scenes, row)))
        items.append(_item(scenes, row, heat / max(float(np.abs(heat).max()), 1e-9), lines[row]))
    return _gallery(title, f"Integrated gradients: {meaning}; patches of {SMALL} pixels. {note}".strip(), items)


class Evidence(nn.Module):
    """Pixels, float [N, 3, H, W] in [0, 1], to the scalar that is explained, [N], see `heads.head.Head.evidence`."""

    def __init__(self, network: RoadNetwork, head: Head, number: int) -> None:
        super().__init__()
        self.network, self.head, self.number = network, head, number

    def forward(self, image: Tensor) -> Tensor:
        predictions = self.network(image)[self.head.name]
        return self.head.evidence(self.network.heads[self.head.name], predictions, self.number)


def hires_cam(network: RoadNetwork, head: Head, number: int, image: Tensor) -> np.ndarray:
    """HiResCAM (Draelos 2020): features at an eighth of the resolution times their gradients, position by position.

    Grad-CAM averages gradients over all positions, which for dense predictions may cancel out.

    Args:
        network: in evaluation mode.
        head: whose class is explained.
        number: of the class.
        image: float [1, 3, H, W] in [0, 1].

    Returns:
        [h, w] in [0, 1].
    """
    layer = network.backbone.stages[1]
    evidence = LayerGradientXActivation(Evidence(network, head, number), layer).attribute(image)
    assert isinstance(evidence, Tensor)
    found = evidence.detach()[0].sum(0).relu().numpy()
    return found / max(float(found.max()), 1e-9)


def integrated_gradients(network: RoadNetwork, head: Head, image: Tensor) -> np.ndarray:
    """Integrated gradients (Sundararajan 2017) of a head's first value, relative to an image of the mean colour.

    Args:
        network: in evaluation mode.
        head: whose value is explained.
        image: float [1, 3, H, W] in [0, 1].

    Returns:
        [H, W]; the sum is the difference of the two values.
    """
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
    """An item of a gallery: an image under its heatmap, [h, w] in [-1, 1], red above zero and blue below."""
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
