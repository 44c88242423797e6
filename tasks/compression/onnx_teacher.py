"""A bundle that teaches: any graph that tells probabilities of the classes, however large and whatever it was made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tasks.contract.codec import Codec
from tasks.contract.errors import BundleError, SettingError
from tasks.contract.usecase import UseCase
from tasks.serving.bundle import Bundle, open_bundle

PROBABILITIES = "probabilities"
LEAST = 1e-7  # probability: the logarithm of 0 has no end
SURE = 1e-3  # how far sums of probabilities may be from 1, where only one class is right


class OnnxTeacher(nn.Module):
    """What a student's network is asked, to the logits of what the bundle answers, float32 [N, C]."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.bundle, self.asked = bundle, bundle.session.get_inputs()[0]

    def forward(self, asked: Tensor) -> Tensor:
        """uint8, float in [0, 1] or int64, as the network takes it."""
        array = asked.detach().cpu()
        if self.asked.type == "tensor(uint8)" and array.is_floating_point():  # augmented pixels
            array = (255 * array.float()).round().clamp(0, 255).to(torch.uint8)
        likely = np.clip(self.bundle.predict({self.asked.name: array.numpy()})[PROBABILITIES], LEAST, 1 - LEAST)
        one_is_right = np.abs(likely.sum(1) - 1).max() < SURE
        logits = np.log(likely) if one_is_right else np.log(likely) - np.log1p(-likely)
        return torch.from_numpy(logits.astype(np.float32)).to(asked.device)


def open_teacher(folder: Path, usecase: UseCase, data: Path) -> OnnxTeacher:
    """The bundle in `folder` as a teacher of `usecase` on prepared `data`.

    Raises:
        SettingError: it is no bundle, tells no probabilities, knows other classes, or reads its inputs in another way.
    """
    try:
        bundle = open_bundle(folder, torch.get_num_threads())
    except BundleError as error:
        raise SettingError(f"--distillation.bundle {folder} cannot teach: {error}") from None
    outputs, inputs = ([value.name for value in values] for values in (bundle.session.get_outputs(), bundle.session.get_inputs()))
    if outputs != [PROBABILITIES] or len(inputs) != 1:
        told = ", ".join(outputs)
        raise SettingError(
            f"--distillation.bundle {folder} tells {told}: only those that tell probabilities of classes can teach. A checkpoint can teach all else."
        )
    codec = usecase.codec(data / "assets")
    known, wanted = (getattr(one, "labels", None) for one in (bundle.codec, codec))
    if known is not None and wanted is not None and list(known) != list(wanted):
        raise SettingError(
            f"--distillation.bundle {folder} knows the classes {_few(known)}, but the data have {_few(wanted)}. Teach with one of the same, in the same order."
        )
    if not _read_alike(bundle.codec, codec, str(usecase.example_request(data))):
        raise SettingError(
            f"--distillation.bundle {folder} reads its inputs otherwise than the student: images of another size, or texts by other tokens. "
            "Prepare the student's data as the bundle's were."
        )
    return OnnxTeacher(bundle)


def _read_alike(one: Codec, other: Codec, request: str) -> bool:
    read = [codec.encode([codec.read(request)]) for codec in (one, other)]
    return read[0].keys() == read[1].keys() and all(np.array_equal(read[0][name], read[1][name]) for name in read[0])


def _few(labels: list[str]) -> str:
    return ", ".join(map(str, labels[:5])) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
