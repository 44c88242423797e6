"""Tensors in the format of the Open Inference Protocol: JSON, optionally followed by raw bytes."""

from __future__ import annotations

import math
import reprlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import orjson

from tasks.contract.types import Arrays
from tasks.serving.refusals import Refusal, TooLarge

DATATYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
NAMES = {np.dtype(dtype): name for name, dtype in DATATYPES.items()}
KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}  # kinds of JSON values that fit into a kind of tensor
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 2**40  # product of the sides of a shape, without those of length 0


@dataclass(frozen=True)
class InferRequest:
    """An inference request.

    `outputs` names the outputs to return (empty: all), and `binary` those of them to return as raw bytes.
    """

    id: str
    inputs: Arrays
    outputs: tuple[str, ...] = ()
    binary: frozenset[str] = frozenset()
    all_binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Decompress the body of a request.

    Args:
        body: as it was sent.
        encoding: value of the header Content-Encoding: gzip, deflate, identity, or empty.
        max_bytes: limit of the result; decompression stops there.

    Returns:
        The decompressed body.

    Raises:
        Refusal: the encoding is unknown, or the body is damaged.
        TooLarge: the body exceeds the limit.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise Refusal(f"Content-Encoding {encoding[:40]!r} is not supported; use gzip or deflate.")
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # detects gzip and zlib headers
    try:
        whole = decompressor.decompress(body, max_bytes + 1)
    except zlib.error:
        raise Refusal(f"The body is not valid {encoding}.") from None
    if len(whole) > max_bytes:
        raise TooLarge(f"The decompressed body is larger than {max_bytes:,} bytes, the limit of --max_megabytes.")
    if not decompressor.eof:
        raise Refusal(f"The {encoding} body is truncated.")
    return whole


def read_request(body: bytes, json_length: int | None) -> InferRequest:
    """Read an inference request.

    Args:
        body: JSON, followed by the raw bytes of tensors if `json_length` is given.
        json_length: bytes of the JSON part; None: the whole body is JSON.

    Raises:
        Refusal: the request is invalid.
    """
    if json_length is not None and not 0 <= json_length <= len(body):
        raise Refusal(f"Inference-Header-Content-Length is {json_length}; the body has {len(body):,} bytes.")
    head, raw = (body, b"") if json_length is None else (body[:json_length], body[json_length:])
    try:
        request = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise Refusal(f"The request is not valid JSON: {error}.") from None
    if not isinstance(request, dict):
        raise Refusal("The request has to be a JSON object with a list of inputs.")
    inputs, used = {}, 0
    for given in _objects(request, "inputs", required=True):
        name = _text(given, "name")
        if name in inputs:
            raise Refusal(f"The input {name!r:.80} is given twice.")
        size = _parameters(given).get("binary_data_size")
        if size is None:
            inputs[name] = from_json(name, given)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or size < 0 or used + size > len(raw):
            raise Refusal(
                f"The input {name!r:.80} has binary_data_size {reprlib.repr(size)}; {len(raw) - used:,} bytes of the body are left."
            )
        inputs[name] = from_bytes(name, given, raw[used : used + size])
        used += size
    if used != len(raw):
        raise Refusal(f"{len(raw) - used:,} bytes after the JSON part do not belong to any input.")
    wanted = _objects(request, "outputs", required=False)
    parameters = _parameters(request)
    return InferRequest(
        id=_id(request),
        inputs=inputs,
        outputs=tuple(_text(one, "name") for one in wanted),
        binary=frozenset(one["name"] for one in wanted if _parameters(one).get("binary_data")),
        all_binary=bool(parameters.get("binary_data_output")),
        parameters=parameters,
    )


def write_response(model: str, version: str, request: InferRequest, outputs: Arrays) -> tuple[bytes, int | None]:
    """Write an inference response.

    Args:
        model: name of the model.
        version: that computed the outputs.
        request: names the outputs and their format.
        outputs: arrays by name.

    Returns:
        The body, and the length of its JSON part if raw bytes follow it, otherwise None.

    Raises:
        Refusal: the request names an output that does not exist.
    """
    check_output_names(request.outputs, outputs)
    written: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name in request.outputs or outputs:
        array = outputs[name]
        one: dict[str, Any] = {"name": name, "datatype": NAMES[array.dtype], "shape": list(array.shape)}
        if name in request.binary or (request.all_binary and not request.outputs):
            raw.append(np.ascontiguousarray(array).tobytes())
            one["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            one["data"] = np.ascontiguousarray(array, dtype=_plain(array.dtype)).ravel()
        written.append(one)
    answer = {"model_name": model, "model_version": version, **({"id": request.id} if request.id else {}), "outputs": written}
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([head, *raw]), len(head) if raw else None


def check_output_names(wanted: Sequence[str], outputs: Arrays) -> None:
    """Raises `Refusal` if the model has no output of a wanted name."""
    missing = [name for name in wanted if name not in outputs]
    if missing:
        raise Refusal(f"There is no output {missing[0]!r:.80}. Outputs of the model: {', '.join(outputs)}.")


def check_finite(inputs: Arrays) -> None:
    """Raises `Refusal` if an input contains NaN or infinity."""
    for name, array in inputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Refusal(f"The input {name!r:.80} contains NaN or infinity.")


# -- one tensor -------------------------------------------------------------------------------------------------------
def from_json(name: str, given: Mapping[str, Any]) -> np.ndarray:
    """The tensor of `{"datatype", "shape", "data"}`. Raises `Refusal` if it is invalid."""
    dtype, shape = _dtype(name, given), _shape(name, given)
    if "data" not in given:
        raise Refusal(f"The input {name!r:.80} has no data.")
    if not _are_numbers(given["data"]):  # checked before NumPy, which would pad all strings to the longest one
        raise Refusal(f"The data of the input {name!r:.80} are not all {NAMES[dtype]}.")
    try:
        array = np.array(given["data"])
    except ValueError:
        raise Refusal(f"The data of the input {name!r:.80} are rows of different lengths.") from None
    if array.size == 0:
        array = array.astype(dtype)
    if array.dtype.kind not in KINDS[dtype.kind]:
        raise Refusal(f"The data of the input {name!r:.80} are not all {NAMES[dtype]}.")
    if dtype.kind in "iu" and array.size and (array.min() < np.iinfo(dtype).min or array.max() > np.iinfo(dtype).max):
        raise Refusal(
            f"The data of the input {name!r:.80} are out of range for {NAMES[dtype]}: they are between {array.min()} and {array.max()}."
        )
    with np.errstate(over="ignore"):
        return _in_shape(name, array.astype(dtype), shape)


def from_bytes(name: str, given: Mapping[str, Any], raw: bytes) -> np.ndarray:
    """A tensor from raw bytes.

    Args:
        name: of the input.
        given: `{"datatype", "shape"}`.
        raw: little-endian values in row-major order.

    Returns:
        An array that shares the memory of `raw`, except for booleans.

    Raises:
        Refusal: the datatype is unknown, or the number of bytes does not match the shape.
    """
    dtype, shape = _dtype(name, given), _shape(name, given)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise Refusal(
            f"The input {name!r:.80} has {len(raw):,} raw bytes; {NAMES[dtype]} of shape {shape} needs {math.prod(shape) * dtype.itemsize:,}."
        )
    if dtype.kind == "b":
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape) != 0
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def _in_shape(name: str, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if array.size != math.prod(shape):
        raise Refusal(f"The input {name!r:.80} has {array.size:,} values; the shape {list(shape)} needs {math.prod(shape):,}.")
    return array.reshape(shape)


def _dtype(name: str, given: Mapping[str, Any]) -> np.dtype:
    datatype = given.get("datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise Refusal(f"The input {name!r:.80} has the datatype {reprlib.repr(datatype)}; expected one of {', '.join(DATATYPES)}.")
    return np.dtype(DATATYPES[datatype])


def _shape(name: str, given: Mapping[str, Any]) -> list[int]:
    shape = given.get("shape")
    fits = isinstance(shape, list) and 0 < len(shape) <= MAX_DIMENSIONS and all(type(side) is int and 0 <= side < 2**31 for side in shape)
    if not fits:
        raise Refusal(
            f"The input {name!r:.80} has the shape {reprlib.repr(shape)}; a list of 1 to {MAX_DIMENSIONS} whole numbers was expected."
        )
    assert isinstance(shape, list)
    if math.prod(side or 1 for side in shape) > MAX_ELEMENTS:
        raise Refusal(f"The input {name!r:.80} has the shape {shape}, which is too large.")
    return shape


def _are_numbers(data: Any) -> bool:
    """Whether the data are numbers in nested lists, at most as deep as a tensor may be."""
    flat: list[Any] = data if isinstance(data, list) else [data]
    for _ in range(MAX_DIMENSIONS):
        kinds = set(map(type, flat))
        if kinds != {list}:
            return kinds <= {int, float, bool, list}  # a mix of lists and numbers means rows of different lengths
        flat = list(chain.from_iterable(flat))
    return not flat


def _plain(dtype: np.dtype) -> np.dtype:
    """A type that orjson can write."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


# -- fields of JSON objects --------------------------------------------------------------------------------------------
def _objects(given: Mapping[str, Any], name: str, required: bool) -> list[dict[str, Any]]:
    listed = given.get(name)
    if listed is None and not required:
        return []
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed) or (required and not listed):
        raise Refusal(f"{name!r:.80} has to be a list of objects{', at least one' if required else ''}.")
    return listed


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    found = given.get("parameters") or {}
    if not isinstance(found, dict):
        raise Refusal(f"'parameters' has to be an object; found {reprlib.repr(found)}.")
    return found


def _text(given: Mapping[str, Any], name: str) -> str:
    found = given.get(name)
    if not isinstance(found, str):
        raise Refusal(f"{name!r:.80} has to be a string; found {reprlib.repr(found)}.")
    return found


def _id(given: Mapping[str, Any]) -> str:
    found = given.get("id", "")
    if not isinstance(found, str | int):
        raise Refusal(f"'id' has to be a string; found {reprlib.repr(found)}.")
    return str(found)
