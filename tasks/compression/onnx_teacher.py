"""Teachers from bundles: any ONNX graph that outputs probabilities of classes can be the teacher of a student."""

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
MIN_PROBABILITY = 1e-7  # so that logarithms are finite
SUM_TOLERANCE = 1e-3  # difference of summed probabilities from 1 up to which they are those of a softmax


class OnnxTeacher(nn.Module):
    """The model of a bundle as a module that returns logits, float32 [N, C]: of a softmax or, for several labels, of sigmoids."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.bundle, self.input = bundle, bundle.session.get_inputs()[0]

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits for the inputs of the student: uint8, float in [0, 1] or int64."""
        array = inputs.detach().cpu()
        if self.input.type == "tensor(uint8)" and array.is_floating_point():  # augmented pixels
            array = (255 * array.float()).round().clamp(0, 255).to(torch.uint8)
        outputs = self.bundle.predict({self.input.name: array.numpy()})
        probabilities = np.clip(outputs[PROBABILITIES], MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        is_softmax = np.abs(probabilities.sum(1) - 1).max() < SUM_TOLERANCE
        logits = np.log(probabilities) if is_softmax else np.log(probabilities) - np.log1p(-probabilities)
        return torch.from_numpy(logits.astype(np.float32)).to(inputs.device)


def open_teacher(folder: Path, usecase: UseCase, data: Path) -> OnnxTeacher:
    """Open a bundle as the teacher of a use case.

    Args:
        folder: folder of the bundle.
        usecase: the use case of the student.
        data: folder of the prepared data.

    Returns:
        The teacher.

    Raises:
        SettingError: the bundle cannot be opened, does not output probabilities, has other classes, or encodes its inputs differently.
    """
    try:
        bundle = open_bundle(folder, torch.get_num_threads())
    except BundleError as error:
        raise SettingError(f"--distillation.bundle {folder} cannot be the teacher: {error}") from None
    outputs, inputs = ([value.name for value in values] for values in (bundle.session.get_outputs(), bundle.session.get_inputs()))
    if outputs != [PROBABILITIES] or len(inputs) != 1:
        raise SettingError(
            f"--distillation.bundle {folder} has the inputs {', '.join(inputs)} and the outputs {', '.join(outputs)}; a teacher needs one input "
            f"and the output {PROBABILITIES}. Leave the bundle out: the trained network is the teacher then."
        )
    codec = usecase.codec(data / "assets")
    found, expected = (getattr(one, "labels", None) for one in (bundle.codec, codec))
    if found is not None and expected is not None and list(found) != list(expected):
        raise SettingError(
            f"--distillation.bundle {folder} has the classes {_few(found)}, but the data has {_few(expected)}. "
            "The teacher needs the same classes in the same order."
        )
    if not _read_alike(bundle.codec, codec, str(usecase.example_request(data))):
        raise SettingError(
            f"--distillation.bundle {folder} encodes its inputs differently from the student: images of another size, or texts with another "
            "tokenizer. Prepare the data with the settings of the bundle."
        )
    return OnnxTeacher(bundle)


def _read_alike(one: Codec, other: Codec, request: str) -> bool:
    read = [codec.encode([codec.read(request)]) for codec in (one, other)]
    return read[0].keys() == read[1].keys() and all(np.array_equal(read[0][name], read[1][name]) for name in read[0])


def _few(labels: list[str]) -> str:
    return ", ".join(map(str, labels[:5])) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
