"""The Open Inference Protocol over gRPC, in the event loop of the HTTP server."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from tasks.contract.errors import SettingError, UserError
from tasks.contract.types import Arrays
from tasks.serving import protocol
from tasks.serving.frontend import Server, record_request
from tasks.serving.guard import api_key
from tasks.serving.messages import MESSAGES, SERVICE
from tasks.serving.refusals import Refusal
from tasks.serving.tensors import NAMES, check_finite, check_output_names, from_bytes, from_json

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
TYPES = ("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
"""Datatypes in the order of their numbers in the model configuration."""
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}

Handler = Callable[[Any, Any], Awaitable[dict[str, Any]]]


async def start(server: Server) -> grpc.aio.Server:
    """Start the gRPC server on `grpc_port`.

    Raises:
        SettingError: the port is taken.
    """
    settings = server.settings
    options = [("grpc.max_receive_message_length", server.max_body_bytes), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
    listening = grpc.aio.server(options=options)
    listening.add_generic_rpc_handlers((_handlers(Service(server)),))
    address = f"{settings.host}:{settings.grpc_port}"
    try:
        if settings.certificate:
            listening.add_secure_port(address, server.credentials())
        else:
            listening.add_insecure_port(address)
    except RuntimeError:
        raise SettingError(
            f"--grpc_port {settings.grpc_port}: cannot listen on {address}. Choose another port, or stop the program that uses it."
        ) from None
    await listening.start()
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_relevant)
    return listening


def _is_relevant(record: logging.LogRecord) -> bool:
    """Drops the traceback that grpc logs for every client that disconnects before its answer is sent."""
    return not (record.exc_info and record.exc_info[0] and record.exc_info[0].__name__ == "ExecuteBatchError")


def _handlers(service: Service) -> grpc.GenericRpcHandler:
    methods = {
        name.removesuffix("Request"): grpc.unary_unary_rpc_method_handler(
            service.answering(name.removesuffix("Request")), response_serializer=_written
        )
        for name in MESSAGES
        if name.endswith("Request")
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


class Service:
    """One coroutine per method of the protocol, which returns the fields of the response."""

    def __init__(self, server: Server) -> None:
        self.server, self.models = server, server.models

    def answering(self, method: str) -> Callable[[Any, Any], Awaitable[Any]]:
        handler: Handler = getattr(self, _snake(method))
        request_class = MESSAGES[f"{method}Request"]
        response_class = MESSAGES[f"{method}Response"]

        async def answered(request: bytes, context: Any) -> Any:
            try:
                found = await handler(request_class.FromString(request), context)
                return found if isinstance(found, response_class) else ParseDict(found, response_class(), ignore_unknown_fields=True)
            except DecodeError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The bytes are not a valid {method}Request.")
            except UserError as error:
                status = error.status if isinstance(error, Refusal) else 400
                if isinstance(error, Refusal) and error.retry_after is not None:
                    context.set_trailing_metadata((("retry-after", str(max(1, round(error.retry_after)))),))
                await context.abort(CODES.get(status, grpc.StatusCode.UNKNOWN), str(error))

        return answered

    def admit(self, context: Any, model: str = "") -> None:
        self.server.guard.admit(api_key(_metadata(context)), str(context.peer()).rpartition(":")[0], model)

    # -- methods ------------------------------------------------------------------------------------------------------
    async def server_live(self, request: Any, context: Any) -> dict[str, Any]:
        return {"live": True}

    async def server_ready(self, request: Any, context: Any) -> dict[str, Any]:
        return {"ready": self.models.ready()}

    async def model_ready(self, request: Any, context: Any) -> dict[str, Any]:
        self.admit(context, request.name)
        self.models.get(request.name, request.version)
        return {"ready": True}

    async def server_metadata(self, request: Any, context: Any) -> dict[str, Any]:
        self.admit(context)
        return protocol.server_metadata()

    async def model_metadata(self, request: Any, context: Any) -> dict[str, Any]:
        self.admit(context, request.name)
        served = self.models.get(request.name, request.version)
        return protocol.model_metadata(served, list(self.models.models[request.name].versions))

    async def model_config(self, request: Any, context: Any) -> dict[str, Any]:
        self.admit(context, request.name)
        config = protocol.model_config(self.models.get(request.name, request.version), self.server.settings)
        for tensor in (*config["input"], *config["output"]):
            tensor["data_type"] = TYPES.index(tensor["data_type"].removeprefix("TYPE_"))
        return {"config": config}

    async def model_statistics(self, request: Any, context: Any) -> dict[str, Any]:
        self.admit(context, request.name)
        if request.name:
            self.models.get(request.name, request.version)
        chosen = [
            version
            for model in self.models.models.values()
            for version in model.versions.values()
            if request.name in ("", model.name) and request.version in ("", version.version)
        ]
        return {"model_stats": [protocol.statistics(version) for version in chosen]}

    async def repository_index(self, request: Any, context: Any) -> dict[str, Any]:
        self.admit(context)
        rows = await self.models.run_in_thread(self.models.index)
        return {"models": [row for row in rows if row["state"] == "READY" or not request.ready]}

    async def repository_model_load(self, request: Any, context: Any) -> dict[str, Any]:
        self.admit(context)
        parameters = {entry.key: entry.value for entry in request.parameters}
        version = parameters["version"].string_param or parameters["version"].int64_param or "" if "version" in parameters else ""
        await self.models.load(request.model_name, str(version))
        return {}

    async def repository_model_unload(self, request: Any, context: Any) -> dict[str, Any]:
        self.admit(context)
        await self.models.unload(request.model_name)
        return {}

    async def model_infer(self, request: Any, context: Any) -> Any:
        self.admit(context, request.model_name)
        served = self.models.route(request.model_name, request.model_version)
        with record_request(self.server, served, "grpc", _metadata(context)):
            inputs = read_inputs(request)
            check_finite(inputs)
            left = context.time_remaining()
            seconds = min(left, self.server.settings.deadline_seconds) if left is not None else self.server.settings.deadline_seconds
            outputs = await self.models.infer(served, inputs, seconds, "grpc")
            wanted = [one.name for one in request.outputs] or list(outputs)
            return write_outputs(served.model, served.version, request.id, wanted, outputs)


def read_inputs(request: Any) -> Arrays:
    """The input tensors of a ModelInferRequest. Raises `Refusal` if they are invalid."""
    raw, inputs = list(request.raw_input_contents), {}
    for tensor in request.inputs:
        given: dict[str, Any] = {"datatype": tensor.datatype, "shape": list(tensor.shape)}
        if tensor.name in inputs:
            raise Refusal(f"The input {tensor.name!r} is given twice.")
        if tensor.HasField("contents"):
            kind = CONTENTS.get(tensor.datatype, "bytes_contents")
            inputs[tensor.name] = from_json(tensor.name, {**given, "data": list(getattr(tensor.contents, kind))})
        elif raw:
            inputs[tensor.name] = from_bytes(tensor.name, given, raw.pop(0))
        else:
            raise Refusal(f"The input {tensor.name!r} has no data.")
    if raw:
        raise Refusal(f"raw_input_contents has {len(raw)} more entries than there are inputs.")
    return inputs


def write_outputs(model: str, version: str, number: str, wanted: list[str], outputs: Arrays) -> Any:
    """A ModelInferResponse.

    Args:
        model: name of the model.
        version: that computed the outputs.
        number: id of the request.
        wanted: names of the outputs to write.
        outputs: arrays by name.

    Returns:
        The message, with the outputs as raw bytes.

    Raises:
        Refusal: there is no output of a wanted name.
    """
    check_output_names(wanted, outputs)
    tensors = [{"name": name, "datatype": NAMES[outputs[name].dtype], "shape": list(outputs[name].shape)} for name in wanted]
    answer = MESSAGES["ModelInferResponse"](model_name=model, model_version=version, id=number, outputs=tensors)
    answer.raw_output_contents.extend(np.ascontiguousarray(outputs[name]).tobytes() for name in wanted)
    return answer


def _metadata(context: Any) -> dict[str, str]:
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}


def _written(message: Any) -> bytes:
    return message.SerializeToString()


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")
