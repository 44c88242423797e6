"""Strategies of hypothesis for invalid requests: mutated valid requests, and noise."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from benchmarks.serving.live import LENGTH, Valid
from tasks.serving.messages import MESSAGES
from tasks.serving.tensors import DATATYPES

PLAIN = 50_000  # bytes up to which tensors are written as JSON; larger ones are sent as raw bytes
ANSWER, GLANCE = 20.0, 0.2  # timeouts in seconds for requests that must and that may not have an answer
REMOVED, TWICE = object(), object()
TEXTS = ["a" * 12_000] + [""] * 12_000  # a NumPy array of them would take 576 MB
RAW = {  # invalid or extreme JSON, in place of a string
    "@deep": b"[" * 1000 + b"]" * 1000,
    "@deeper": b"[" * 100_000,
    "@nested": b'{"a":' * 1000 + b"1" + b"}" * 1000,
    "@infinite": b"1e999",
    "@digits": b"1" * 5000,
    "@latin": b'"\xe9\xff"',
    "@texts": json.dumps(TEXTS).encode(),
    "@vast": json.dumps(["a" * 1_000_000] + [""] * 1_000_000).encode(),
}
SHAPES = [[0], [-1], [1, 0], [0, *[2**31 - 1] * 7], [1] * 9, [2**31 - 1, 2**31 - 1], [2**31], [1.0], [True], [], [[1]]]
TEXTUAL = ["", "a" * 10_000, "\x00", "\ud800", "é𝕏\u202e", "../../etc/passwd", "%2f", "__proto__", "NaN", "1e5", *DATATYPES, "BYTES", *RAW]
NUMBERS = [0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 1e308, float("nan"), float("-inf"), 1e-320]
LEAVES = st.none() | st.booleans() | st.sampled_from([*NUMBERS, *TEXTUAL]) | st.integers() | st.floats() | st.text(max_size=8)
ODD = LEAVES | st.sampled_from(SHAPES) | st.recursive(LEAVES, lambda one: st.lists(one) | st.dictionaries(st.text(max_size=4), one))
CHANGE = st.just(REMOVED) | st.just(TWICE) | st.sampled_from(list(RAW)) | ODD
SEGMENTS = [
    "..",
    ".",
    "%2e%2e%2f%2e%2e%2fetc",
    "%2f",
    "%00",
    "\x00",
    "%",
    "%ff",
    "\xff",
    "é",
    "a" * 9000,
    "-1",
    "1e0",
    "9" * 5000,
    "%D9%A1",
]
SEGMENTS += ["", " ", "?", "#", ":predict", "infer", "{model}", "*", "'", "a;b", "%0d%0aX-Odd:%201"]
METHODS = ["PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "PRI", "post", "FOO", "A" * 3000, "\x00"]
HEADERS: list[tuple[str, str]] = [
    ("X-Deadline-Ms", odd) for odd in ("nan", "inf", "-1", "1e-300", "1_0", "0x1", "1e400", "", "\xff", "9" * 5000)
]
HEADERS += [("Content-Length", odd) for odd in ("-1", "0", "1", "99999999999999999999", "+5", "1e3", "", "5, 5", "\xb2")]
HEADERS += [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "gzip"), ("Expect", "100-continue"), ("Upgrade", "h2c")]
HEADERS += [("Content-Type", odd) for odd in ("", "text/plain; charset=utf-7", "multipart/form-data", "\xff", "a" * 9000)]
HEADERS += [("Content-Encoding", odd) for odd in ("br", "gzip", "gzip, gzip", "deflate", "x" * 9000, "\xff")]
HEADERS += [
    ("Host", ""),
    ("X-Long", "a" * 70_000),
    ("no colon", ""),
    ("X-Null", "\x00"),
    ("Authorization", "Bearer \xff"),
    ("Range", "bytes=0-1"),
]
GARBAGE = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 50, b"a" * 200_000]
GARBAGE += [b"\r\n" * 5000, b"GET / HTTP/9.9\r\n\r\n", b"GET /v2 HTTP/1.1\r\n" + b"a: b\r\n" * 5000, b"\x00" * 1000]
BOMB = gzip.compress(bytes(50_000_000), 1)
METHODS_OF_RPC = sorted({name.removesuffix("Request") for name in MESSAGES if name.endswith("Request")})


@dataclass(frozen=True)
class Case:
    """Bytes to write to a connection. `whole`: they are valid HTTP, so that there must be an answer. `wait` 0: the client disconnects."""

    way: str
    data: bytes
    wait: float = ANSWER
    whole: bool = True


@dataclass(frozen=True)
class Call:
    way: str
    method: str
    data: bytes
    seconds: float = ANSWER


def written(path: str, body: bytes, *headers: tuple[str, str], method: str = "POST") -> bytes:
    lines = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    replaced = {name: value for name, value in lines.items() if name not in dict(headers)}
    head = "".join(f"{name}: {value}\r\n" for name, value in [*replaced.items(), *headers])
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1", "replace") + body


def as_text(value: Any) -> bytes:
    text = json.dumps(value).encode()
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"'.encode(), raw)
    return text


# -- mutations of valid requests --------------------------------------------------------------------------------------
def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    inside = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*here, key))


def changed(value: Any, place: Sequence[Any], new: Any) -> Any:
    """A copy in which the value at a place is replaced, removed or duplicated."""
    if not place:
        return {} if new is REMOVED else [value, value] if new is TWICE else new
    copy, key = value.copy(), place[0]
    if len(place) > 1 or new not in (REMOVED, TWICE):
        copy[key] = changed(value[key], place[1:], new)
    elif new is REMOVED:
        del copy[key]
    elif isinstance(copy, list):
        copy.insert(key, copy[key])
    else:
        copy[f"{key}2"] = copy[key]
    return copy


@st.composite
def bent(draw: st.DrawFn, value: Any) -> Any:
    for _ in range(draw(st.integers(1, 3))):
        all_places = list(places(value))
        inner = [place for place in all_places if len(place) > 2] or all_places
        value = changed(value, draw(st.sampled_from(all_places) | st.sampled_from(inner)), draw(CHANGE))
    return value


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.sampled_from([start, min(start + 1, len(data)), min(start + 40, len(data)), len(data)]))
        piece = draw(
            st.binary(max_size=8) | st.sampled_from([b"", data[start:end] * 2, b"[" * 1000, b"1" * 5000, b"\\ud800", b"\xff\xfe", b'"'])
        )
        data = data[:start] + piece + data[end:]
    return data


@st.composite
def infers(draw: st.DrawFn, valid: Sequence[Valid]) -> Case:
    """An inference request as JSON or with raw bytes, possibly compressed, with a mutation at one of these steps."""
    one = draw(st.sampled_from(valid))
    binary = sum(array.nbytes for array in one.inputs.values()) > PLAIN or draw(st.booleans())
    outputs = [{"name": name, "parameters": {"binary_data": False}} for name in next(iter(one.outputs.values()))]
    optional = {
        "id": "7",
        "parameters": {"timeout": 5_000_000, "binary_data_output": True},
        **({"outputs": outputs} if draw(st.booleans()) else {}),
    }
    value = {**(one.head() if binary else json.loads(one.text)), **optional}
    step = draw(st.sampled_from(["tensors", "tensors", "tensors", "bytes", "raw", "length", "packed", "headers", "none"]))
    text = as_text(draw(bent(value)) if step == "tensors" else value)
    raw, length = b"".join(one.raw()) if binary else b"", len(text)
    body = draw(damaged(text)) if step == "bytes" else text
    body += draw(damaged(raw)) if step == "raw" else raw
    headers = [(LENGTH, str(length))] if binary else []
    if step == "length":
        odd = [0, -1, length - 1, length + 1, len(body), len(body) + 1, 10**11, 10**13, "", "abc", "+5", "1e3", "\xb2", "1, 1"]
        headers = [(LENGTH, str(draw(st.sampled_from(odd))))]
    if step == "packed":
        how = draw(st.sampled_from(["gzip", "deflate", "GZIP ", "identity", "br"]))
        packed = draw(st.sampled_from([gzip.compress(body, 1), zlib.compress(body, 1), BOMB, body, b""]))
        body, headers = draw(st.just(packed) | damaged(packed)), [*headers, ("Content-Encoding", how)]
    odd_headers = draw(st.lists(st.sampled_from(HEADERS), min_size=1, max_size=2)) if step == "headers" else []
    path = one.path if draw(st.booleans()) else one.path.replace("/infer", f"/versions/{next(iter(one.outputs))}/infer")
    return Case(f"infer, {step}", written(path, body, *headers, *odd_headers), GLANCE if odd_headers else ANSWER, not odd_headers)


def picture(side: int) -> bytes:
    """A black PNG that is a small file."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes((1 + side // 8) * side))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


PICTURES = [picture(9_000), picture(50_000)]


@st.composite
def predictions(draw: st.DrawFn, valid: Sequence[Valid]) -> Case:
    one = draw(st.sampled_from(valid))
    example = one.example.read_bytes()
    body = draw(damaged(example) | st.sampled_from([*PICTURES, b"", b'{"b64": "%%%"}', b'{"b64": 7}']) | ODD.map(as_text))
    kind = draw(st.sampled_from([one.takes, "application/json", "text/plain", "image/png", "", "text/html; charset=utf-16"]))
    query = draw(st.sampled_from(["", "", "", "", "?explain=true", "?explain=x", "?version=%00", "?version=1&version=2"]))
    return Case("predict", written(f"/v1/models/{one.model}:predict{query}", body, ("Content-Type", kind)))


@st.composite
def repository(draw: st.DrawFn, valid: Sequence[Valid]) -> Case:
    """Requests to the repository, except those that unload a model."""
    name = draw(st.sampled_from(valid)).model
    traffic = {"canary": "1", "share": 0.5, "shadow": "1"}
    path, value = draw(
        st.tuples(st.just(f"models/{name}/traffic"), bent(traffic))
        | st.tuples(st.just("index"), bent({"ready": True}))
        | st.tuples(st.sampled_from(SEGMENTS).map(lambda odd: f"models/x{odd}/load"), bent({"parameters": {"version": "1"}}))
        | st.tuples(st.just(f"models/{name}/rollback"), ODD)
    )
    return Case("repository", written(f"/v2/repository/{path}", as_text(value)), GLANCE if "load" in path else ANSWER, "load" not in path)


# -- noise ------------------------------------------------------------------------------------------------------------
@st.composite
def noise(draw: st.DrawFn, valid: Sequence[Valid]) -> Case:
    one = draw(st.sampled_from(valid))
    start = draw(st.sampled_from(["/v2/models", f"/v2/models/{one.model}/versions", "/v1/models", "/page", "/v2", ""]))
    path = "/".join([start, *draw(st.lists(st.sampled_from([*SEGMENTS, one.model, "1", "stats", "config"]), min_size=1, max_size=3))])
    request = one.in_binary()
    kind = draw(st.sampled_from(["path", "method", "garbage", "hang up", "damaged", "two"]))
    if kind == "path":
        return Case(kind, written(path, b"", method=draw(st.sampled_from(["GET", "POST"]))), GLANCE, False)
    if kind == "method":
        return Case(kind, written(draw(st.sampled_from([one.path, path])), one.text, method=draw(st.sampled_from(METHODS))), GLANCE, False)
    if kind == "garbage":
        return Case(kind, draw(st.binary(max_size=200) | st.sampled_from(GARBAGE)), GLANCE, False)
    if kind == "hang up":
        return Case(kind, request[: draw(st.integers(0, len(request)))] if draw(st.booleans()) else request, 0.0, False)
    if kind == "damaged":
        return Case(kind, draw(damaged(request)), GLANCE, False)
    return Case(kind, request + draw(damaged(request)), GLANCE, False)


def http_cases(valid: Sequence[Valid]) -> st.SearchStrategy[Case]:
    """Cases over HTTP; more than half are mutated valid requests."""
    return st.one_of(infers(valid), infers(valid), infers(valid), predictions(valid), repository(valid), noise(valid), noise(valid))


# -- gRPC -------------------------------------------------------------------------------------------------------------
@st.composite
def rpc_cases(draw: st.DrawFn, valid: Sequence[Valid]) -> Call | Case:
    one = draw(st.sampled_from(valid))
    kind = draw(st.sampled_from(["message", "message", "message", "bytes", "hang up", "method", "connection"]))
    if kind == "connection":
        return Case("gRPC, connection", draw(st.sampled_from(GARBAGE) | st.binary(max_size=200)), GLANCE, False)
    if kind == "method":
        method = draw(st.sampled_from([*METHODS_OF_RPC, "ModelInfer2", "", "a" * 5000]))
        fields = st.sampled_from(
            [b"", b"\x0a\x01x", b"\x0a\x02\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 200, one.message().SerializeToString()]
        )
        asked = b"" if "load" in method.lower() else draw(fields | st.binary(max_size=50))
        return Call("gRPC, method", method, asked)
    message = draw(bent_message(one)) if kind == "message" else one.message()
    data = message.SerializeToString()
    return Call(f"gRPC, {kind}", "ModelInfer", draw(damaged(data)) if kind == "bytes" else data, 0.001 if kind == "hang up" else ANSWER)


@st.composite
def bent_message(draw: st.DrawFn, one: Valid) -> Any:
    message = one.message()
    numbers = st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, 2**63 - 1]) | st.integers(-(2**63), 2**63 - 1)
    texts = st.sampled_from([text for text in TEXTUAL if text.isprintable()]) | st.text(max_size=8)
    for _ in range(draw(st.integers(1, 3))):
        tensor = message.inputs[draw(st.integers(0, len(message.inputs) - 1))]
        match draw(st.sampled_from(["shape", "datatype", "name", "contents", "raw", "outputs", "more", "version", "id"])):
            case "shape":
                tensor.shape[:] = draw(st.lists(numbers, max_size=9) | st.sampled_from([[0, *[2**31 - 1] * 7], [1, 0]]))
            case "datatype" | "name" as which:
                setattr(tensor, which, draw(texts))
            case "contents":
                held = {"int_contents": [1], "fp32_contents": [float("nan")], "bool_contents": [True], "int64_contents": [2**63 - 1]}
                held |= {"bytes_contents": [text.encode() for text in TEXTS], "uint64_contents": [2**64 - 1]}
                name = draw(st.sampled_from(sorted(held)))
                getattr(tensor.contents, name).extend(held[name])
            case "raw":
                message.raw_input_contents[:] = [draw(damaged(raw)) for raw in message.raw_input_contents]
            case "outputs":
                message.outputs.add(name=draw(texts))
            case "more":
                message.inputs.append(tensor)
            case "version":
                message.model_version = draw(texts)
            case _:
                message.id = draw(texts)
    return message
