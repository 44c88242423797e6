"""The network and loss of the toy, in torch."""

from __future__ import annotations

import itertools
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.contract.errors import DataError
from tests.toy import ToyUseCase


class ToyNetwork(nn.Module):
    def __init__(self, hidden: int, depth: int = 1) -> None:
        super().__init__()
        widths = [2, *[hidden] * depth]
        layers = ([nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU(), nn.Dropout(0.1)] for i, o in itertools.pairwise(widths))
        self.backbone = nn.Sequential(*itertools.chain.from_iterable(layers))
        self.head = nn.Linear(hidden, 2)

    def forward(self, point: Tensor) -> Tensor:
        return self.head(self.backbone(point))

    def layers(self) -> list[nn.Module]:
        return [self.backbone, self.head]


class Probabilities(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, point: Tensor) -> tuple[Tensor]:
        return (torch.softmax(self.network(point), dim=1),)


def loss(usecase: ToyUseCase, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    time.sleep(usecase.slow)
    value = F.cross_entropy(network(batch["point"]), batch["label"])
    if usecase.fault == "raise":
        raise ValueError("the loss went wrong")
    if usecase.fault == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory")
    if usecase.fault == "words":
        raise DataError("row 3 of points.csv has no label")
    if usecase.fault == "hang":
        time.sleep(3600)
    return value * float("nan") if usecase.fault == "nan" else value
