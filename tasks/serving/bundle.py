"""A bundle opened for use: requests in, answers out, with ONNX Runtime and NumPy alone.

A bundle is a folder: `model.onnx` (or `model.onnx.gz`, or for small devices `model.ort`), `usecase.json` (the settings, with the name of their
class), `assets/` (what a request
needs to be understood), `example/` (`request.*` and `answer.json`), `README.md`. Nothing in it is ever executed.
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

LARGEST_SETTINGS = 1_000_000  # bytes
DYNAMIC = b"DynamicQuantize"  # as the names of such operators begin
FEW_ROWS = 8  # of an explanation that are run together
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Bundle:
    """An open bundle. `predict` is the callable that scores are computed with; `answer` speaks the words of its vertical."""

    folder: Path
    usecase: UseCase
    codec: Codec
    session: ort.InferenceSession

    @cached_property
    def rows_are_alone(self) -> bool:
        """Whether a row's outputs are the same whatever rows it is run with.

        Dynamic quantisation takes the scale of its activations from all rows together: what others ask would change the answer.
        """
        return DYNAMIC not in read_graph(stored_graph(self.folder))

    def predict(self, inputs: Arrays) -> Arrays:
        """Named arrays with a batch axis to named arrays with the same batch axis.

        Raises:
            BundleError: an input is missing, unknown, or of a wrong type or shape, or the graph cannot compute what it holds.
        """
        names, checked = [value.name for value in self.session.get_outputs()], self.checked(inputs)
        try:
            answers = self.session.run(names, checked)
        except Exception as error:  # ONNX Runtime raises classes of its own without a common base
            raise BundleError(f"The model cannot compute these inputs: {str(error).splitlines()[0]:.300}") from error
        return {name: np.asarray(answer) for name, answer in zip(names, answers, strict=True)}

    def checked(self, inputs: Arrays) -> Arrays:
        """The inputs that the graph takes.

        Raises:
            BundleError: one is missing, or of a wrong type or shape; or they have different numbers of rows.
        """
        expected = {value.name: value for value in self.session.get_inputs()}
        checked = {name: _checked(value, inputs) for name, value in expected.items()}
        rows = {name: len(array) for name, array in checked.items()}
        if len(set(rows.values())) > 1:
            raise BundleError(f"The inputs have different numbers of rows: {rows}.")
        return checked

    def answer(self, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """One answer per request, ready for JSON."""
        return self.codec.decode(self.predict(self.codec.encode(requests)), requests)

    def explain(self, request: Any, go_on: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Why the answer is what it is, ready for JSON.

        An explanation may ask for hundreds of rows at once; they are run a few at a time, so that memory stays small, and before each
        few `go_on` is called, which may raise.

        Raises:
            BundleError: the vertical does not explain.
        """

        def predict(inputs: Arrays) -> Arrays:
            rows, parts = len(next(iter(inputs.values()))), []
            for start in range(0, max(rows, 1), FEW_ROWS):
                go_on()
                parts.append(self.predict({name: array[start : start + FEW_ROWS] for name, array in inputs.items()}))
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

        if not isinstance(self.usecase, Explainable):
            raise BundleError(f"A model of {self.usecase.name} does not explain its answers.")
        return self.usecase.explain(predict, self.codec, request)

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """What a person sees of an answer that `answer` gave to this request, with its `explanation` where it has one."""
        codec_blocks = getattr(self.codec, "blocks", None)  # codecs from elsewhere may have none
        return codec_blocks(request, answer) if codec_blocks else plain_blocks(answer)

    def example_request(self) -> Any:
        """The real request that travels with the bundle."""
        return self.codec.read(str(example_path(self.folder)))


def open_bundle(
    folder: Path | str, threads: int = 1, spinning: bool = False, device: Device = "cpu", optimised: Path | None = None
) -> Bundle:
    """Open a bundle.

    Args:
        folder: of the bundle.
        threads, spinning, device, optimised: of the session, as `open_session` takes them.

    Raises:
        BundleError: something is missing, damaged, too large or of another version; what, and where.
        SettingError: a device that is not there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"There is no bundle at {folder}: it should be a folder with model.onnx and usecase.json.")
    usecase = _read_usecase(folder / "usecase.json")
    session = open_session(stored_graph(folder), threads, spinning, device=device, optimised=optimised)
    try:
        codec = usecase.codec(folder / "assets")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"The assets of the bundle {folder} are damaged: {error}. Export it again.") from error
    return Bundle(folder, usecase, codec, session)


def example_path(folder: Path) -> Path:
    """The example request of a bundle, whatever its suffix."""
    found = sorted((folder / "example").glob("request.*"))
    if not found:
        raise BundleError(f"The bundle {folder} carries no example request. Export it again.")
    return found[0]


def _read_usecase(path: Path) -> UseCase:
    if not path.is_file():
        raise BundleError(f"{path} is missing: this is no bundle, or an incomplete copy of one.")
    if path.stat().st_size > LARGEST_SETTINGS:
        raise BundleError(f"{path} has {path.stat().st_size:,} bytes; settings are never that large.")
    try:
        usecase = read_typed(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not readable as JSON: {error}.") from error
    except ValidationError as error:
        raise BundleError(f"{path} holds settings of another version: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}.") from error
    if not isinstance(usecase, UseCase):
        raise BundleError(f"{path} names {type(usecase).__name__}, which is no use case.")
    return usecase


def _checked(expected: Any, inputs: Arrays) -> np.ndarray:
    array = inputs.get(expected.name)
    if array is None:
        raise BundleError(f"The input {expected.name!r} is missing; there is {', '.join(map(repr, inputs)) or 'none'}.")
    dtype = DTYPES.get(expected.type)
    if dtype is not None and array.dtype != dtype:
        raise BundleError(f"The input {expected.name!r} should be {np.dtype(dtype)}, not {array.dtype}.")
    fits = len(array.shape) == len(expected.shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(expected.shape, array.shape, strict=True)
    )
    if not fits:
        raise BundleError(f"The input {expected.name!r} should have the shape {expected.shape}, not {list(array.shape)}.")
    return array
