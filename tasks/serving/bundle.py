"""An open bundle, which turns requests into answers with ONNX Runtime and NumPy only.

A bundle is a folder: `model.onnx` (or `model.onnx.gz`, or for small devices `model.ort`), `usecase.json` (the settings and the name
of their class), `assets/` (files that the codec needs, such as a tokenizer), `example/` (`request.*` and `answer.json`) and `README.md`.
Nothing in a bundle is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from pydantic import ValidationError

from tasks.contract.blocks import AnswerBlock, plain_blocks
from tasks.contract.capabilities import Explainable
from tasks.contract.codec import Codec
from tasks.contract.errors import BundleError
from tasks.contract.records import read_typed
from tasks.contract.types import Arrays
from tasks.contract.usecase import UseCase
from tasks.serving.graph_files import read_graph, stored_graph
from tasks.serving.sessions import Device, open_session

MAX_SETTINGS_BYTES = 1_000_000  # bytes
DYNAMIC = b"DynamicQuantize"  # prefix of the names of these operators
EXPLANATION_BATCH = 8  # rows of an explanation per batch
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Bundle:
    """An open bundle. `predict` maps tensors to tensors; `answer` maps requests of the vertical to its answers."""

    folder: Path
    usecase: UseCase
    codec: Codec
    session: ort.InferenceSession

    @cached_property
    def rows_are_independent(self) -> bool:
        """Whether the outputs of a row do not depend on the other rows of its batch.

        Dynamic quantisation computes the scale of activations over the whole batch, so that other requests would change the answer.
        """
        return DYNAMIC not in read_graph(stored_graph(self.folder))

    def predict(self, inputs: Arrays) -> Arrays:
        """Outputs by name for inputs by name; all have the same batch axis.

        Raises:
            BundleError: an input is missing, or has a wrong type or shape, or the graph fails on its values.
        """
        names, checked = [value.name for value in self.session.get_outputs()], self.checked(inputs)
        try:
            answers = self.session.run(names, checked)
        except Exception as error:  # ONNX Runtime raises classes of its own without a common base
            raise BundleError(f"The model cannot compute these inputs: {str(error).splitlines()[0]:.300}") from error
        return {name: np.asarray(answer) for name, answer in zip(names, answers, strict=True)}

    def checked(self, inputs: Arrays) -> Arrays:
        """Those of the inputs that the graph takes, after checking their types and shapes.

        Raises:
            BundleError: an input is missing, or has a wrong type or shape, or the numbers of rows differ.
        """
        expected = {value.name: value for value in self.session.get_inputs()}
        checked = {name: _checked(value, inputs) for name, value in expected.items()}
        rows = {name: len(array) for name, array in checked.items()}
        if len(set(rows.values())) > 1:
            raise BundleError(f"The inputs have different numbers of rows: {rows}.")
        return checked

    def answer(self, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """One answer per request, as JSON values."""
        return self.codec.decode(self.predict(self.codec.encode(requests)), requests)

    def explain(self, request: Any, check_cancelled: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """An explanation of the answer, as JSON values.

        An explanation may need hundreds of rows. They are run in small batches to save memory.

        Args:
            request: as the codec takes it.
            check_cancelled: called before each batch; an error that it raises ends the explanation.

        Raises:
            BundleError: the use case has no explanations.
        """

        def predict(inputs: Arrays) -> Arrays:
            rows, parts = len(next(iter(inputs.values()))), []
            for start in range(0, max(rows, 1), EXPLANATION_BATCH):
                check_cancelled()
                parts.append(self.predict({name: array[start : start + EXPLANATION_BATCH] for name, array in inputs.items()}))
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

        if not isinstance(self.usecase, Explainable):
            raise BundleError(f"The use case {self.usecase.name} has no explanations.")
        return self.usecase.explain(predict, self.codec, request)

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """Blocks that show an answer to a person, including its `explanation` if it has one."""
        codec_blocks = getattr(self.codec, "blocks", None)  # codecs of other packages may not have this method
        return codec_blocks(request, answer) if codec_blocks else plain_blocks(answer)

    def example_request(self) -> Any:
        """The example request of the bundle."""
        return self.codec.read(str(example_path(self.folder)))


def open_bundle(
    folder: Path | str, threads: int = 1, spinning: bool = False, device: Device = "cpu", optimised: Path | None = None
) -> Bundle:
    """Open a bundle.

    Args:
        folder: the bundle.
        threads: CPU threads of the session; 0: all cores that are available to this process.
        spinning: whether waiting threads spin: a little faster, but at the cost of other processes.
        device: where to compute; auto: a GPU if this ONNX Runtime supports one.
        optimised: folder in which optimised graphs are cached, so that opening is faster; None: no cache.

    Returns:
        The bundle with a session that is ready to run.

    Raises:
        BundleError: a file is missing, damaged, too large or of another version.
        SettingError: the device is not available.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"There is no bundle at {folder}: a folder with model.onnx and usecase.json was expected.")
    usecase = _read_usecase(folder / "usecase.json")
    session = open_session(stored_graph(folder), threads, spinning, device=device, optimised=optimised)
    try:
        codec = usecase.codec(folder / "assets")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"The assets of the bundle {folder} are damaged: {error}. Export it again.") from error
    return Bundle(folder, usecase, codec, session)


def example_path(folder: Path) -> Path:
    """Path of the example request of a bundle."""
    found = sorted((folder / "example").glob("request.*"))
    if not found:
        raise BundleError(f"The bundle {folder} has no example request (example/request.*). Export it again.")
    return found[0]


def _read_usecase(path: Path) -> UseCase:
    if not path.is_file():
        raise BundleError(f"{path} is missing: the folder is not a bundle, or an incomplete copy of one.")
    if path.stat().st_size > MAX_SETTINGS_BYTES:
        raise BundleError(f"{path} has {path.stat().st_size:,} bytes; at most {MAX_SETTINGS_BYTES:,} were expected.")
    try:
        usecase = read_typed(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not valid JSON: {error}.") from error
    except ValidationError as error:
        raise BundleError(f"{path} has settings of another version: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}.") from error
    if not isinstance(usecase, UseCase):
        raise BundleError(f"{path} names {type(usecase).__name__}, which is not a use case.")
    return usecase


def _checked(expected: Any, inputs: Arrays) -> np.ndarray:
    array = inputs.get(expected.name)
    if array is None:
        raise BundleError(f"The input {expected.name!r} is missing; found {', '.join(map(repr, inputs)) or 'no inputs'}.")
    dtype = DTYPES.get(expected.type)
    if dtype is not None and array.dtype != dtype:
        raise BundleError(f"The input {expected.name!r} has the type {array.dtype}; expected {np.dtype(dtype)}.")
    fits = len(array.shape) == len(expected.shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(expected.shape, array.shape, strict=True)
    )
    if not fits:
        raise BundleError(f"The input {expected.name!r} has the shape {list(array.shape)}; expected {expected.shape}.")
    return array
