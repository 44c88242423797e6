"""Losses of classification and of pretraining without labels, and calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.contract.types import Predict
from tasks.contract.usecase import Examples
from usecases.calibration import best_temperature
from usecases.image_classification.augment import augmentation, mix
from usecases.image_classification.network import (
    Classifier,
    SmallBackbone,
    TransformersBackbone,
    ViewNetwork,
    build_backbone,
    redundancy_loss,
)

if TYPE_CHECKING:
    from usecases.image_classification import ImageClassification, ImageSettings, ViewInvariance

TEMPERATURE_BATCH = 256


def read_card(assets: Path) -> dict[str, Any]:
    return json.loads((assets / "image.json").read_text(encoding="utf-8"))


class Calibrated(nn.Module):
    """Pixels to probabilities: the softmax of the logits divided by the network's temperature."""

    def __init__(self, network: nn.Module, mirror_average: bool) -> None:
        super().__init__()
        self.network, self.mirror_average = network, mirror_average

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """uint8 [N, C, H, W] to probabilities, float32 [N, classes]."""
        logits = self.network(image).float()
        if self.mirror_average:
            logits = (logits + self.network(image.flip(3)).float()) / 2
        return (torch.softmax(logits / self.network.temperature, dim=1),)


def classifier(usecase: ImageClassification, assets: Path) -> nn.Module:
    classes = len(read_card(assets)["labels"])
    return Classifier(_backbone(usecase, assets), classes, usecase.dropout)


def view_network(usecase: ViewInvariance, assets: Path) -> nn.Module:
    return ViewNetwork(_backbone(usecase, assets))


def _backbone(usecase: ImageSettings, assets: Path) -> SmallBackbone | TransformersBackbone:
    card = read_card(assets)
    return build_backbone(usecase.backbone, card["size"], usecase.width, card["mean"], card["std"])


def classification_loss(usecase: ImageClassification, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy with augmentation, label smoothing, mixup and CutMix.

    Args:
        usecase: its settings of the augmentation.
        network: a `Classifier`.
        batch: image uint8 [B, C, H, W] and label int64 [B].

    Returns:
        A scalar.
    """
    image = augmented(usecase, batch["image"])
    classes = cast(Classifier, network).head.out_features
    image, target = mix(image, batch["label"], classes, usecase.mixup, usecase.cutmix, usecase.label_smoothing)
    return F.cross_entropy(network(image), target)


def view_loss(usecase: ViewInvariance, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The loss of Barlow Twins on two augmented views of the same images; labels are not used.

    Args:
        usecase: its settings of the augmentation.
        network: a `ViewNetwork`.
        batch: image uint8 [B, C, H, W].

    Returns:
        A scalar.
    """
    views = (network(augmented(usecase, batch["image"])) for _ in range(2))
    return redundancy_loss(*views)


def augmented(usecase: ImageSettings, image: Tensor) -> Tensor:
    """uint8 [N, C, H, W] to float in [0, 1], augmented."""
    channels = image.shape[1]
    mirror = usecase.flip == "yes" or (usecase.flip == "auto" and channels == 3)
    return augmentation(mirror, usecase.shift, usecase.colour, usecase.erase, usecase.policy, channels)(image.float() / 255)


def fit_temperature(network: nn.Module, predict: Predict, examples: Examples) -> None:
    """Fit the temperature of a classifier on the validation split (temperature scaling, Guo 2017).

    Args:
        network: the `Classifier` whose temperature is changed in place.
        predict: its predictor.
        examples: the validation split.
    """
    log_probabilities, labels = [], []
    for start in range(0, len(examples), TEMPERATURE_BATCH):
        batch = examples.batch(np.arange(start, min(start + TEMPERATURE_BATCH, len(examples))))
        labels.append(batch.pop("label"))
        log_probabilities.append(np.log(np.clip(predict(batch)["probabilities"], 1e-12, None)))
    logits, label = np.concatenate(log_probabilities), np.concatenate(labels)
    factor = best_temperature(logits, label[:, None] == np.arange(logits.shape[1]))
    cast(Classifier, network).temperature.mul_(factor)  # log-probabilities are logits divided by the present temperature
