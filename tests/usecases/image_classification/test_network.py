"""The networks behind their one interface, and what augmentation does to a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tasks.contract.errors import SettingError
from tasks.exporting.export import check_parity, check_symbolic_axes, write_graph
from tests.tiers import matrix
from usecases.image_classification import ImageClassification
from usecases.image_classification.augment import augmentation, mix
from usecases.image_classification.network import SmallBackbone


def assets(folder: Path, size: int, channels: int, classes: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    card = {
        "size": size,
        "channels": channels,
        "labels": [str(i) for i in range(classes)],
        "mean": [0.5] * channels,
        "std": [0.25] * channels,
    }
    (folder / "image.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize(
    ("backbone", "size", "channels"),
    matrix([["", 8, 1], ["", 28, 1], ["", 96, 3], ["config:resnet", 64, 3], ["config:vit", 32, 1], ["config:convnext", 64, 3]], keep=3),
)
def test_a_network_takes_pixels_and_exports(backbone: str, size: int, channels: int, tmp_path: Path) -> None:
    usecase = ImageClassification(backbone=backbone, width=8)
    torch.manual_seed(0)
    network: Any = usecase.network(assets(tmp_path / "assets", size, channels)).eval()
    image = np.random.default_rng(0).integers(0, 256, (7, channels, size, size), dtype=np.uint8)
    with torch.no_grad():
        logits = network(torch.from_numpy(image))
        assert logits.shape == (7, 3)
        assert torch.allclose(logits, network(torch.from_numpy(image).float() / 255), atol=1e-3)
    layers = network.layers()
    assert len(layers) >= 4
    assert layers[-1] is network.head
    write_graph(usecase, network, {"image": image[:2]}, tmp_path / "model.onnx")
    check_symbolic_axes(tmp_path / "model.onnx")
    check_parity(usecase, network, {"image": image}, tmp_path / "model.onnx")


def test_a_checkpoint_of_other_data_is_a_start(tmp_path: Path) -> None:
    trained: Any = ImageClassification(width=8).network(assets(tmp_path / "assets", 32, 3))
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    larger: Any = ImageClassification(width=8, backbone=str(tmp_path)).network(assets(tmp_path / "other", 96, 3, classes=5))
    assert torch.equal(larger.backbone.stages[1][0][0].weight, trained.backbone.stages[1][0][0].weight)
    with pytest.raises(SettingError, match="its backbone has another width"):
        ImageClassification(width=16, backbone=str(tmp_path)).network(tmp_path / "assets")


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("resnet50", "is neither a folder nor owner/name"),
        ("config:nonsense", "has no model type 'nonsense'"),
        ("nobody/nothing", "could not be loaded"),
    ],
)
def test_a_backbone_that_cannot_be_had(backbone: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it was read on import
    with pytest.raises(SettingError, match=words):
        ImageClassification(backbone=backbone).network(assets(tmp_path, 32, 3))


def test_features_of_every_size_are_finite() -> None:
    for size in (4, 8, 20, 41, 130):
        features = SmallBackbone(size, 4, [0.5], [0.2])(torch.zeros(2, 1, size, size, dtype=torch.uint8))
        assert features.shape == (2, 16)
        assert torch.isfinite(features).all()


@pytest.mark.parametrize("policy", ["none", "trivial", "rand"])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_changes_images_and_repeats_by_seed(policy: Any, channels: int) -> None:
    image = torch.rand(16, channels, 20, 20)
    augment = augmentation(True, 0.1, 0.3, 0.25, policy, channels)
    torch.manual_seed(1)
    first = augment(image)
    torch.manual_seed(1)
    assert torch.equal(first, augment(image))
    assert first.shape == image.shape
    assert not torch.equal(first, image)
    assert first.min() >= -1e-6
    assert first.max() <= 1 + 1e-6


def test_mixing_keeps_targets_a_distribution() -> None:
    image, label = torch.rand(8, 3, 16, 16), torch.arange(8) % 4
    plain, target = mix(image, label, 4, 0, 0, 0.1)
    assert torch.equal(plain, image)
    assert target[0].tolist() == pytest.approx([0.925, 0.025, 0.025, 0.025])
    for mixup, cutmix in ((0.4, 0.0), (0.0, 1.0), (0.4, 1.0)):
        mixed, target = mix(image, label, 4, mixup, cutmix, 0.0)
        assert mixed.shape == image.shape
        assert torch.allclose(target.sum(1), torch.ones(8))
