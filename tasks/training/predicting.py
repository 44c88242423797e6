"""A torch module as a function of arrays, with which scores are computed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from tasks.contract.types import Arrays, Predict
from tasks.contract.usecase import UseCase
from tasks.training.batches import as_tensors


def torch_predict(
    usecase: UseCase,
    network: nn.Module,
    device: torch.device | str = "cpu",
    precision: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Predict:
    """A network as a function of arrays.

    Args:
        usecase: provides the predictor and the names of inputs and outputs.
        network: the trained network; it is in evaluation mode during a call.
        device: the device of the network.
        precision: makes the context in which the network runs, such as autocast.

    Returns:
        A function from input arrays to output arrays by name, all with a batch axis.
    """
    module = usecase.predictor(network)

    def predict(inputs: Arrays) -> Arrays:
        was_training = network.training
        module.eval()
        tensors = as_tensors({name: inputs[name] for name in usecase.input_names})
        with torch.inference_mode(), precision():
            outputs = module(*(tensor.to(device) for tensor in tensors.values()))
        network.train(was_training)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: _as_array(output) for name, output in zip(usecase.output_names, outputs, strict=True)}

    return predict


def _as_array(output: Tensor) -> np.ndarray:
    return (output.float() if output.is_floating_point() else output).cpu().numpy()
