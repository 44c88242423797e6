"""Tensors as the Open Inference Protocol writes them: JSON, or raw bytes after it."""

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
KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}  # of JSON's values that a kind of tensor can hold
MOST_AXES = 8
MOST_NUMBERS = 2**40  # of a shape, its sides of 0 aside


@dataclass(frozen=True)
class Inference:
    """A request to infer: `binary` are the outputs that are wanted as raw bytes, `outputs` those that are wanted at all (empty: all)."""

    id: str
    inputs: Arrays
    outputs: tuple[str, ...] = ()
    binary: frozenset[str] = frozenset()
    all_binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


def inflated(body: bytes, encoding: str, most: int) -> bytes:
    """A body as it was before it was compressed; never more than `most` bytes are unpacked.

    Raises:
        Refusal: an unknown encoding, or damaged.
        TooLarge: it would be more.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise Refusal(f"Content-Encoding {encoding[:40]!r} is unknown: gzip and deflate are read.")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)  # tells gzip from zlib by itself
    try:
        whole = unpack.decompress(body, most + 1)
    except zlib.error:
        raise Refusal(f"The body is no {encoding}, or damaged.") from None
    if len(whole) > most:
        raise TooLarge(f"The body is larger than the {most:,} bytes that are read, once it is unpacked.")
    if not unpack.eof:
        raise Refusal(f"The body of {encoding} ends too early.")
    return whole


def read_inference(body: bytes, json_length: int | None) -> Inference:
    """Args:
        body: JSON, or where `json_length` is given so much of it, and after it the raw bytes of tensors.

    Raises:
        Refusal: in words, what is wrong with it.
    """
    if json_length is not None and not 0 <= json_length <= len(body):
        raise Refusal(f"Inference-Header-Content-Length is {json_length}; the body has {len(body):,} bytes.")
    head, raw = (body, b"") if json_length is None else (body[:json_length], body[json_length:])
    try:
        request = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise Refusal(f"The request is no JSON: {error}.") from None
    if not isinstance(request, dict):
        raise Refusal("The request should be an object of JSON with a list of inputs.")
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
            raise Refusal(f"The input {name!r:.80} should have {reprlib.repr(size)} raw bytes; {len(raw) - used:,} are left of the body.")
        inputs[name] = from_bytes(name, given, raw[used : used + size])
        used += size
    if used != len(raw):
        raise Refusal(f"{len(raw) - used:,} bytes after the JSON belong to no input.")
    wanted = _objects(request, "outputs", required=False)
    parameters = _parameters(request)
    return Inference(
        id=_id(request),
        inputs=inputs,
        outputs=tuple(_text(one, "name") for one in wanted),
        binary=frozenset(one["name"] for one in wanted if _parameters(one).get("binary_data")),
        all_binary=bool(parameters.get("binary_data_output")),
        parameters=parameters,
    )


def write_answer(model: str, version: str, request: Inference, outputs: Arrays) -> tuple[bytes, int | None]:
    """The body, and how much of it is JSON where raw bytes follow.

    Raises:
        Refusal: an output is wanted that there is not.
    """
    check_wanted(request.outputs, outputs)
    told: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name in request.outputs or outputs:
        array = outputs[name]
        one: dict[str, Any] = {"name": name, "datatype": NAMES[array.dtype], "shape": list(array.shape)}
        if name in request.binary or (request.all_binary and not request.outputs):
            raw.append(np.ascontiguousarray(array).tobytes())
            one["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            one["data"] = np.ascontiguousarray(array, dtype=_plain(array.dtype)).ravel()
        told.append(one)
    answer = {"model_name": model, "model_version": version, **({"id": request.id} if request.id else {}), "outputs": told}
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([head, *raw]), len(head) if raw else None


def check_wanted(wanted: Sequence[str], outputs: Arrays) -> None:
    """Raises `Refusal`: an output is wanted that there is not."""
    missing = [name for name in wanted if name not in outputs]
    if missing:
        raise Refusal(f"There is no output {missing[0]!r:.80}; there is {', '.join(outputs)}.")


def check_numbers(inputs: Arrays) -> None:
    """Raises `Refusal`: one of them holds what is no number."""
    for name, array in inputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Refusal(f"The input {name!r:.80} holds NaN or infinity.")


# -- one tensor -------------------------------------------------------------------------------------------------------
def from_json(name: str, given: Mapping[str, Any]) -> np.ndarray:
    """Of `{"datatype", "shape", "data"}`. Raises `Refusal`: in words, what is wrong."""
    dtype, shape = _dtype(name, given), _shape(name, given)
    if "data" not in given:
        raise Refusal(f"The input {name!r:.80} has no data.")
    if not _are_numbers(given["data"]):  # asked before NumPy, which would make all texts as long as the longest
        raise Refusal(f"The data of the input {name!r:.80} are not all of {NAMES[dtype]}.")
    try:
        array = np.array(given["data"])
    except ValueError:
        raise Refusal(f"The data of the input {name!r:.80} are rows of different lengths.") from None
    if array.size == 0:
        array = array.astype(dtype)
    if array.dtype.kind not in KINDS[dtype.kind]:
        raise Refusal(f"The data of the input {name!r:.80} are not all of {NAMES[dtype]}.")
    if dtype.kind in "iu" and array.size and (array.min() < np.iinfo(dtype).min or array.max() > np.iinfo(dtype).max):
        raise Refusal(
            f"The data of the input {name!r:.80} do not fit into {NAMES[dtype]}: they lie between {array.min()} and {array.max()}."
        )
    with np.errstate(over="ignore"):
        return _in_shape(name, array.astype(dtype), shape)


def from_bytes(name: str, given: Mapping[str, Any], raw: bytes) -> np.ndarray:
    """Of `{"datatype", "shape"}`. Raises `Refusal`: in words, what is wrong."""
    dtype, shape = _dtype(name, given), _shape(name, given)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise Refusal(
            f"The input {name!r:.80} has {len(raw):,} raw bytes; {NAMES[dtype]} of shape {shape} has {math.prod(shape) * dtype.itemsize:,}."
        )
    if dtype.kind == "b":
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape) != 0
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def _in_shape(name: str, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if array.size != math.prod(shape):
        raise Refusal(f"The input {name!r:.80} has {array.size:,} numbers; shape {list(shape)} has {math.prod(shape):,}.")
    return array.reshape(shape)


def _dtype(name: str, given: Mapping[str, Any]) -> np.dtype:
    datatype = given.get("datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise Refusal(f"The input {name!r:.80} has the datatype {reprlib.repr(datatype)}; known are {', '.join(DATATYPES)}.")
    return np.dtype(DATATYPES[datatype])


def _shape(name: str, given: Mapping[str, Any]) -> list[int]:
    shape = given.get("shape")
    fits = isinstance(shape, list) and 0 < len(shape) <= MOST_AXES and all(type(side) is int and 0 <= side < 2**31 for side in shape)
    if not fits:
        raise Refusal(f"The input {name!r:.80} has the shape {reprlib.repr(shape)}: 1 to {MOST_AXES} whole numbers were expected.")
    assert isinstance(shape, list)
    if math.prod(side or 1 for side in shape) > MOST_NUMBERS:
        raise Refusal(f"The input {name!r:.80} has the shape {shape}, which is too large.")
    return shape


def _are_numbers(data: Any) -> bool:
    """Whether nothing but numbers is in lists within lists, as deep as a tensor may be."""
    flat: list[Any] = data if isinstance(data, list) else [data]
    for _ in range(MOST_AXES):
        kinds = set(map(type, flat))
        if kinds != {list}:
            return kinds <= {int, float, bool, list}  # lists beside numbers are rows of different lengths
        flat = list(chain.from_iterable(flat))
    return not flat


def _plain(dtype: np.dtype) -> np.dtype:
    """What JSON's writer knows."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


# -- JSON of unknown make ---------------------------------------------------------------------------------------------
def _objects(given: Mapping[str, Any], name: str, required: bool) -> list[dict[str, Any]]:
    listed = given.get(name)
    if listed is None and not required:
        return []
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed) or (required and not listed):
        raise Refusal(f"{name!r:.80} should be a list of objects{', one at least' if required else ''}.")
    return listed


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    found = given.get("parameters") or {}
    if not isinstance(found, dict):
        raise Refusal(f"'parameters' should be an object, not {reprlib.repr(found)}.")
    return found


def _text(given: Mapping[str, Any], name: str) -> str:
    found = given.get(name)
    if not isinstance(found, str):
        raise Refusal(f"{name!r:.80} should be a text, not {reprlib.repr(found)}.")
    return found


def _id(given: Mapping[str, Any]) -> str:
    found = given.get("id", "")
    if not isinstance(found, str | int):
        raise Refusal(f"'id' should be a text, not {reprlib.repr(found)}.")
    return str(found)
