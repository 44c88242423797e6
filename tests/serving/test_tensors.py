"""Tensors on the wire: what was sent is what is read, and what is wrong with a request is said in words."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest

from tasks.contract.errors import UserError
from tasks.serving.refusals import Refusal, TooLarge
from tasks.serving.tensors import DATATYPES, InferRequest, check_finite, decompress, read_request, write_response


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4.5], **changes}


def body(*inputs: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **changes}).encode()


DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_travels_as_json_and_as_raw_bytes(datatype: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]], dtype=DATATYPES[datatype])
    nested = read_request(body(tensor(shape=[2, 3], datatype=datatype, data=array.tolist())), None)
    flat = read_request(body(tensor(shape=[2, 3], datatype=datatype, data=array.ravel().tolist())), None)
    raw = array.tobytes()
    head = body({"name": "x", "shape": [2, 3], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}})
    binary = read_request(head + raw, len(head))
    for found in (nested, flat, binary):
        assert found.inputs["x"].dtype == array.dtype and (found.inputs["x"] == array).all()
    for all_binary in (False, True):
        written, length = write_response("m", "1", InferRequest("7", {}, all_binary=all_binary), {"y": array})
        answer = json.loads(written[:length])
        assert answer["id"] == "7" and answer["outputs"][0]["shape"] == [2, 3] and answer["outputs"][0]["datatype"] == datatype
        told = np.frombuffer(written[length:], dtype=array.dtype) if all_binary else np.array(answer["outputs"][0]["data"])
        assert (told.reshape(2, 3) == array).all()


def test_outputs_are_chosen_and_written_as_was_asked() -> None:
    asked = read_request(
        body(
            tensor(), outputs=[{"name": "b", "parameters": {"binary_data": True}}, {"name": "a"}], parameters={"binary_data_output": True}
        ),
        None,
    )
    outputs = {"a": np.zeros((1, 1), np.float32), "b": np.ones((1, 2), np.int64), "c": np.ones((1, 2), np.int64)}
    written, length = write_response("m", "1", asked, outputs)
    answer = json.loads(written[:length])
    assert [one["name"] for one in answer["outputs"]] == ["b", "a"] and answer["outputs"][1]["data"] == [0.0]
    assert len(written[length:]) == answer["outputs"][0]["parameters"]["binary_data_size"] == 16
    with pytest.raises(Refusal, match=r"There is no output 'z'\. Outputs of the model: a, b, c"):
        write_response("m", "1", InferRequest("", {}, outputs=("z",)), outputs)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"{", "is not valid JSON"),
        (b"[]", "has to be a JSON object"),
        (b"{}", "'inputs' has to be a list of objects, at least one"),
        (body(), "at least one"),
        (body(tensor(name=3)), "'name' has to be a string; found 3"),
        (body(tensor(), tensor()), "given twice"),
        (body(tensor(datatype="FP8")), "datatype 'FP8'; expected one of BOOL"),
        (body(tensor(datatype=["FP32"])), "expected one of BOOL"),
        (body(tensor(shape=[2, 3])), "has 4 values; the shape [2, 3] needs 6"),
        (body(tensor(shape=[-2, -2])), "whole numbers was expected"),
        (body(tensor(shape=[2**40, 2**40])), "whole numbers was expected"),
        (body(tensor(shape=[True, 4])), "whole numbers was expected"),
        (body(tensor(shape=[])), "whole numbers was expected"),
        (body(tensor(shape=[1] * 9)), "1 to 8 whole numbers"),
        (body(tensor(data=[[1, 2], [3]])), "rows of different lengths"),
        (body(tensor(data=["a", "b", "c", "d"])), "not all FP32"),
        (body(tensor(data=[1, 2, None, 4])), "not all FP32"),
        (body(tensor(data={"a": 1})), "not all FP32"),
        (body({"name": "x", "shape": [1], "datatype": "FP32"}), "has no data"),
        (body(tensor(datatype="INT64", data=[1, 2, 3, 4.5])), "not all INT64"),
        (body(tensor(datatype="UINT8", data=[1, 2, 3, 256])), "are out of range for UINT8"),
        (body(tensor(datatype="BOOL", data=[1, 0, 1, 2])), "not all BOOL"),
        (body(tensor(parameters=3)), "'parameters' has to be an object"),
        (body(tensor(data=["a" * 100_000] + [""] * 100_000)), "not all FP32"),  # NumPy alone would need 40 GB for it
        (body(tensor(data=[[[[[[[[[1.0]]]]]]]]])), "not all FP32"),
        (body(tensor(shape=[0, 2**31 - 1, 2**31 - 1, 2**31 - 1], data=[])), "which is too large"),
        (body(tensor(shape=[0, 2**31 - 1, 2**31 - 1], data=[])), "which is too large"),
        (DEEP.join((b'{"inputs": [{"name": ', b"}]}")), "'name' has to be a string; found [["),
        (DEEP.join((b'{"inputs": [{"name": "x", "shape": [1], "datatype": ', b"}]}")), "has the datatype [["),
        (DEEP.join((b'{"inputs": [{"name": "x", "shape": ', b', "datatype": "FP32"}]}')), "has the shape [["),
        (DEEP.join((b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": ', b"}]}")), "not all FP32"),
        (
            DEEP.join((b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "id": ', b"}")),
            "'id' has to be a string",
        ),
        (body(tensor(parameters={"binary_data_size": 16})), "has binary_data_size 16; 0 bytes of the body are left"),
        (body(tensor(parameters={"binary_data_size": -1})), "has binary_data_size -1"),
        (body(tensor(), outputs=[3]), "'outputs' has to be a list of objects"),
    ],
)
def test_what_is_wrong_is_said(sent: bytes, words: str) -> None:
    with pytest.raises(UserError) as refused:
        read_request(sent, None)
    assert words in str(refused.value)


def test_raw_bytes_must_fit() -> None:
    head = body({"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 4}})
    with pytest.raises(Refusal, match=r"has 4 raw bytes; FP32 of shape \[2\] needs 8"):
        read_request(head + bytes(4), len(head))
    with pytest.raises(Refusal, match="5 bytes after the JSON part do not belong to any input"):
        read_request(body(tensor()) + bytes(5), len(body(tensor())))
    with pytest.raises(Refusal, match="Inference-Header-Content-Length is 900"):
        read_request(body(tensor()), 900)
    for wrong in (np.nan, np.inf):
        with pytest.raises(Refusal, match="contains NaN or infinity"):
            check_finite({"x": np.array([1.0, wrong])})


def test_compressed_bodies_are_unpacked_and_bombs_are_not() -> None:
    text = b"abc" * 100
    assert (
        decompress(gzip.compress(text), "gzip", 1000)
        == decompress(zlib.compress(text), "deflate", 1000)
        == decompress(text, "", 10)
        == text
    )
    with pytest.raises(TooLarge, match="larger than 1,000 bytes"):
        decompress(gzip.compress(bytes(10_000_000)), "gzip", 1000)
    with pytest.raises(Refusal, match="is not valid gzip"):
        decompress(text, "gzip", 1000)
    with pytest.raises(Refusal, match="is truncated"):
        decompress(gzip.compress(text)[:-12], "gzip", 1000)
    with pytest.raises(Refusal, match="'br' is not supported"):
        decompress(text, "br", 1000)
