"""Image networks: a small residual network, or any image model of transformers, behind one interface.

All take uint8 [N, C, H, W], or float in [0, 1], and normalise inside, so that an exported graph takes raw pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tasks.contract.errors import SettingError
from usecases.convolutions import Normalise, Residual, conv_norm

OUR_WEIGHTS = "weights.safetensors"
WORKING_SIDE = 40  # the stem halves larger images until they are smaller: cost falls with the square of the side
MIN_SIDE = 3  # of a feature map that is still worth a convolution


class SmallBackbone(nn.Module):
    """A residual network after ResNet-9, of convolutions and pooling only, which quantise and fuse well.

    image [N, C, H, W] to features [N, features].
    """

    def __init__(self, size: int, width: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        stem, side = [conv_norm(len(mean), width)], size
        while side > WORKING_SIDE:
            stem = [conv_norm(len(mean), width, stride=2)] if side == size else [*stem, conv_norm(width, width, stride=2)]
            side //= 2
        stages, inputs = [nn.Sequential(*stem)], width
        for multiple, residuals in ((2, 1), (4, 0), (4, 1)):
            stage: list[nn.Module] = [conv_norm(inputs, width * multiple)]
            if side >= 2 * MIN_SIDE:
                stage.append(nn.MaxPool2d(2))
                side //= 2
            inputs = width * multiple
            stages.append(nn.Sequential(*stage, *(Residual(inputs) for _ in range(residuals))))
        self.stages = nn.Sequential(*stages)
        self.features = inputs

    def forward(self, image: Tensor) -> Tensor:
        return self.stages(self.normalise(image)).amax(dim=(2, 3))

    def layers(self) -> list[nn.Module]:
        return list(self.stages)


class TransformersBackbone(nn.Module):
    """An image model of transformers: image [N, C, H, W] to pooled features [N, features]."""

    def __init__(self, model: nn.Module, features: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.model = model
        self.features = features

    def forward(self, image: Tensor) -> Tensor:
        image = self.normalise(image)
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)
        found = self.model(pixel_values=image)
        pooled = getattr(found, "pooler_output", None)
        if pooled is None:  # [N, tokens, features] or [N, features, H, W]
            hidden = found.last_hidden_state
            pooled = hidden.mean(dim=1) if hidden.ndim == 3 else hidden.mean(dim=(2, 3))
        return pooled.flatten(1)

    def layers(self) -> list[nn.Module]:
        """Its blocks, which are the longest list of modules; all other parameters form the first layer."""
        lists = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        blocks = list(max(lists, key=len, default=[]))
        inside = {id(p) for block in blocks for p in block.parameters()}
        before = nn.ParameterList([p for p in self.parameters() if id(p) not in inside])
        return [before, *blocks]


class Classifier(nn.Module):
    """A backbone and a linear head: image to logits [N, classes]. Its buffer `temperature` is fitted by calibration."""

    def __init__(self, backbone: SmallBackbone | TransformersBackbone, classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.features, classes)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.dropout(self.backbone(image))).float()

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), self.head]


class ViewNetwork(nn.Module):
    """A backbone and the projector of Barlow Twins (Zbontar 2021): image to embedding [N, dimensions]."""

    def __init__(self, backbone: SmallBackbone | TransformersBackbone, dimensions: int = 256) -> None:
        super().__init__()
        self.backbone = backbone
        hidden = nn.Sequential(nn.Linear(backbone.features, dimensions, bias=False), nn.BatchNorm1d(dimensions), nn.ReLU(inplace=True))
        self.projector = nn.Sequential(hidden, nn.Linear(dimensions, dimensions, bias=False))

    def forward(self, image: Tensor) -> Tensor:
        return self.projector(self.backbone(image)).float()

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), self.projector]


def redundancy_loss(one: Tensor, other: Tensor, off_diagonal: float = 5e-3) -> Tensor:
    """The loss of Barlow Twins (Zbontar 2021): the cross-correlation of two views' embeddings should be the identity.

    Args:
        one: embeddings of the first views, [N, D].
        other: embeddings of the second views, [N, D].
        off_diagonal: weight of the off-diagonal elements.

    Returns:
        A scalar.
    """
    one, other = ((view - view.mean(0)) / (view.std(0) + 1e-5) for view in (one, other))
    correlation = one.T @ other / len(one)
    diagonal = torch.diagonal(correlation)
    same = (1 - diagonal).square().sum()
    different = correlation.square().sum() - diagonal.square().sum()
    return (same + off_diagonal * different) / len(diagonal)


def build_backbone(name: str, size: int, width: int, mean: Sequence[float], std: Sequence[float]) -> SmallBackbone | TransformersBackbone:
    """Build a backbone by its name.

    Args:
        name: empty: `SmallBackbone`; the folder of a checkpoint of one; or a model of transformers: `owner/name` on the hub, a local
            folder, or `config:<type>` with random weights.
        size: side of the images in pixels.
        width: channels of the first stage of `SmallBackbone`.
        mean: of each channel, in [0, 1].
        std: standard deviation of each channel.

    Returns:
        The backbone.

    Raises:
        SettingError: the model does not exist, cannot be loaded, or has another width.
    """
    if not name:
        return SmallBackbone(size, width, mean, std)
    if (Path(name) / OUR_WEIGHTS).is_file():
        return _from_checkpoint(Path(name), size, width, mean, std)
    model, mean, std = _from_transformers(name, size, mean, std)
    with torch.no_grad():
        probe = TransformersBackbone(model, 0, mean, std).eval()
        features = probe(torch.zeros(1, len(mean), size, size)).shape[1]
    return TransformersBackbone(model, features, mean, std)


def _from_checkpoint(folder: Path, size: int, width: int, mean: Sequence[float], std: Sequence[float]) -> SmallBackbone:
    """A `SmallBackbone` with the weights and the normalisation of a checkpoint; layers of another shape keep their random weights."""
    backbone = SmallBackbone(size, width, mean, std)
    saved = load_file(folder / OUR_WEIGHTS)
    own = backbone.state_dict()
    theirs = {name.removeprefix("backbone."): value for name, value in saved.items() if name.startswith("backbone.")}
    fitting = {name: value for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    missed = [name for name, value in own.items() if value.ndim == 4 and name not in fitting and name in theirs]
    if missed or not fitting:
        raise SettingError(
            f"The checkpoint {folder} does not fit the settings: its backbone has another width or other image channels "
            f"({', '.join(missed[:3]) or 'no layer fits'}). Give the --usecase.width (it is {width}) and --usecase.channels that it was trained with."
        )
    backbone.load_state_dict(own | fitting)
    return backbone


def _from_transformers(
    name: str, size: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[nn.Module, Sequence[float], Sequence[float]]:
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if name.startswith("config:"):
        return AutoModel.from_config(_random_config(name.removeprefix("config:"), size, AutoConfig)), mean, std
    if not Path(name).exists() and name.count("/") != 1:
        raise SettingError(f"--usecase.backbone {name!r} is neither a folder nor owner/name of a model on the hub.")
    try:
        config = AutoConfig.from_pretrained(name)
        model = AutoModel.from_pretrained(name, config=config)
    except (OSError, ValueError) as error:
        raise SettingError(f"The backbone {name!r} could not be loaded: {str(error).splitlines()[0]}") from error
    return model, *_its_normalisation(name, len(mean), mean, std)


def _random_config(kind: str, size: int, auto: Any) -> Any:
    try:
        config = auto.for_model(kind)
    except ValueError:
        raise SettingError(f"transformers has no model type {kind!r}. Types of image models: resnet, vit, convnext, deit, swin.") from None
    if hasattr(config, "image_size"):
        config.image_size = size
        if hasattr(config, "patch_size") and isinstance(config.patch_size, int):
            config.patch_size = max(2, min(config.patch_size, size // 8))
    return config


def _its_normalisation(name: str, channels: int, mean: Sequence[float], std: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The mean and deviation that a model was pretrained with, if it publishes them; for grey images their averages over the channels."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        card, _ = ImageProcessingMixin.get_image_processor_dict(name)
        theirs = card["image_mean"], card["image_std"]
    except (OSError, KeyError):
        return mean, std
    if channels == 3:
        return theirs
    mean, std = ([sum(values) / len(values)] for values in theirs)
    return mean, std
