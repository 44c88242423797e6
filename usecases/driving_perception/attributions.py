"""Attributions for images of the test split, head by head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.network import RoadNetwork
from usecases.driving_perception.scenes import StoredScenes, read_card


def attributions(network: RoadNetwork, folder: Path) -> list[dict[str, Any]]:
    """A gallery for each head that has something to show."""
    card, scenes = read_card(folder / "assets"), StoredScenes(folder / "test")
    network.eval()
    galleries = [HEADS[name].attributions(network, scenes, card) for name in network.heads]
    return [gallery for gallery in galleries if gallery and gallery["items"]]
