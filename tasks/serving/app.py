"""The HTTP API of the server: the Open Inference Protocol under /v2, and the requests and answers of the verticals under /v1."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import mimetypes
import reprlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.routing import Route

from tasks.contract.capabilities import Explainable
from tasks.contract.errors import UserError
from tasks.serving import protocol
from tasks.serving.bundle import example_path
from tasks.serving.frontend import Server, record_request
from tasks.serving.guard import ANY
from tasks.serving.logs import log_event
from tasks.serving.refusals import ClientDisconnected, Refusal
from tasks.serving.settings import Serving

T = TypeVar("T")
DRAIN_SECONDS = 30
PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
PREDICTIONS_SECONDS = 60.0  # interval at which logged predictions are written, however few
JSON_LENGTH = "Inference-Header-Content-Length"
CLIENT_CHECK_SECONDS = 0.02  # into a request, when checking for a disconnected client begins


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled if the client disconnects. The body of the request must have been read before.

    Raises:
        ClientDisconnected: the client disconnected before the result was ready.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    leaving: asyncio.Task[Any] | None = None
    over = False

    def disconnected(received: asyncio.Task[Any]) -> None:
        if not over and not received.cancelled():  # the callback may run only after the work is done
            task.cancel()

    def start_check() -> None:
        nonlocal leaving
        leaving = loop.create_task(request.receive())  # pyright: ignore[reportArgumentType]
        leaving.add_done_callback(disconnected)

    timer = loop.call_later(CLIENT_CHECK_SECONDS, start_check)  # most answers are ready sooner, and the check takes time
    try:
        return await work
    except asyncio.CancelledError:
        if leaving is None or not leaving.done():
            raise
        task.uncancel()
        raise ClientDisconnected("The client disconnected.") from None
    finally:
        over = True
        timer.cancel()
        if leaving is not None:
            leaving.cancel()


@contextlib.asynccontextmanager
async def lifespan(server: Server) -> AsyncIterator[None]:
    """Load the models before the first request, and answer all accepted requests before the server ends."""
    await server.models.load_all()  # versions that cannot be loaded are logged
    calls = None
    if server.settings.grpc_port:
        from tasks.serving import rpc

        calls = await rpc.start(server)
    background = [asyncio.create_task(server.models.watch())] if server.settings.watch_seconds else []
    if server.models.predictions:
        background.append(asyncio.create_task(server.models.predictions.run(PREDICTIONS_SECONDS)))
    yield
    log_event("draining")
    for task in background:
        task.cancel()
    if calls is not None:
        await calls.stop(DRAIN_SECONDS)
    await server.models.close()
    if server.traces:
        await asyncio.to_thread(server.traces.close)


def make_app(repository: Path, settings: Serving) -> FastAPI:
    """The application. Raises `SettingError` if the file of keys cannot be read."""
    server = Server(repository, settings)
    app = FastAPIOffline(  # its API docs load nothing from other servers
        redoc_url=None,
        title="Verticals",
        summary="Models by the Open Inference Protocol, and with the requests and answers of their verticals.",
        lifespan=lambda _: lifespan(server),
    )
    app.state.server = server
    _errors(app)
    _protocol(app, server)
    _repository(app, server)
    _verticals(app, server)

    for name, kind in {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}.items():
        shown = Response((PAGE / name).read_bytes(), media_type=kind, headers=PAGE_HEADERS)
        app.get("/" if name == "index.html" else f"/page/{name}", include_in_schema=False)(_always(shown))

    @app.get("/metrics", tags=["monitoring"], response_class=Response, summary="Metrics for Prometheus")
    async def metrics(request: Request) -> Response:
        server.admit(request)
        return Response(server.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def _always(response: Response) -> Callable[[], Awaitable[Response]]:
    async def page() -> Response:
        return response

    return page


# -- errors -----------------------------------------------------------------------------------------------------------
def _errors(app: FastAPI) -> None:
    @app.exception_handler(UserError)
    async def refused(request: Request, error: UserError) -> Response:
        status = error.status if isinstance(error, Refusal) else 400
        after = error.retry_after if isinstance(error, Refusal) else None
        headers = {"Retry-After": str(max(1, round(after)))} if after is not None else {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return _json({"error": str(error)}, status, headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        number = uuid.uuid4().hex[:12]
        log_event("request failed", logging.ERROR, error, path=request.url.path, number=number)
        return _json({"error": f"The server failed. Its log has the details under the number {number}."}, 500)


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), status, headers, media_type="application/json")


# -- the Open Inference Protocol --------------------------------------------------------------------------------------
def _protocol(app: FastAPI, server: Server) -> None:
    models = server.models

    @app.get("/v2/health/live", tags=["health"], summary="Whether the server is running")
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready", tags=["health"], summary="Whether all models are ready")
    async def ready() -> Response:
        return _json({"ready": models.ready()}, 200 if models.ready() else 503)

    @app.get("/v2", tags=["metadata"], summary="Name, version and extensions of the server")
    async def about(request: Request) -> Response:
        server.admit(request)
        return _json(protocol.server_metadata())

    @app.get("/v2/models/stats", tags=["metadata"], summary="Statistics of all models")
    async def all_statistics(request: Request) -> Response:
        server.admit(request)
        return _json({"model_stats": [protocol.statistics(v) for model in models.models.values() for v in model.versions.values()]})

    for where in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        versioned = "version}" in where

        @app.get(where, tags=["metadata"], summary="Inputs and outputs of the model", name=f"metadata {versioned}")
        async def metadata(request: Request, model: str, version: str = "") -> Response:
            server.admit(request, model)
            return _json(protocol.model_metadata(models.get(model, version), list(models.models[model].versions)))

        @app.get(f"{where}/ready", tags=["health"], summary="Whether the model is ready", name=f"model ready {versioned}")
        async def model_ready(request: Request, model: str, version: str = "") -> Response:
            server.admit(request, model)
            models.get(model, version)
            return _json({"name": model, "ready": True})

        @app.get(f"{where}/config", tags=["metadata"], summary="Configuration of batching and instances", name=f"config {versioned}")
        async def config(request: Request, model: str, version: str = "") -> Response:
            server.admit(request, model)
            return _json(protocol.model_config(models.get(model, version), server.settings))

        @app.get(f"{where}/stats", tags=["metadata"], summary="Statistics of the model", name=f"stats {versioned}")
        async def stats(request: Request, model: str, version: str = "") -> Response:
            server.admit(request, model)
            served = models.get(model, version)
            chosen = [served] if version else list(models.models[model].versions.values())
            return _json({"model_stats": [protocol.statistics(one) for one in chosen]})

        async def infer(request: Request, model: str, version: str = "") -> Response:
            server.admit(request, model)
            served = models.route(model, version)
            with record_request(server, served, "v2", request.headers):
                body = await server.body(request)
                infer_request = await server.read(body, _length(request))
                seconds = server.seconds(request, infer_request.parameters.get("timeout"))
                outputs = await while_connected(request, models.infer(served, infer_request.inputs, seconds))
                written, length = await server.written(served, infer_request, outputs)
                if length is None:
                    return Response(written, media_type="application/json")
                return Response(written, headers={JSON_LENGTH: str(length)}, media_type="application/octet-stream")

        async def infer_directly(request: Request, infer: Any = infer) -> Response:
            return await infer(request, **request.path_params)

        documented = {"tags": ["inference"], "summary": "Predict on tensors", "openapi_extra": protocol.INFER_DOCS}
        app.post(f"{where}/infer", name=f"infer {versioned}", **documented)(infer)
        app.router.routes.insert(
            0, Route(f"{where}/infer", infer_directly, methods=["POST"])
        )  # FastAPI's own routing takes half as long as everything else


def _length(request: Request) -> int | None:
    length = request.headers.get(JSON_LENGTH)
    if length is None:
        return None
    if not length.isdecimal() or len(length) > 12:
        raise Refusal(f"{JSON_LENGTH} is {length[:40]!r}; a number of bytes was expected.")
    return int(length)


# -- the repository ---------------------------------------------------------------------------------------------------
def _repository(app: FastAPI, server: Server) -> None:
    models = server.models

    async def json_body(request: Request) -> dict[str, Any]:
        body = await server.body(request)
        try:
            value = orjson.loads(body) if body.strip() else {}
        except orjson.JSONDecodeError as error:
            raise Refusal(f"The body is not valid JSON: {error}.") from None
        if not isinstance(value, dict):
            raise Refusal("The body has to be a JSON object.")
        return value

    @app.post("/v2/repository/index", tags=["repository"], summary="All versions and their states")
    async def index(request: Request) -> Response:
        server.admit(request)
        ready = (await json_body(request)).get("ready") is True
        rows = await models.run_in_thread(models.index)
        return _json([row for row in rows if row["state"] == "READY" or not ready])

    @app.post(
        "/v2/repository/models/{model}/load", tags=["repository"], summary="Serve the newest version, or the one in parameters.version"
    )
    async def load(request: Request, model: str) -> Response:
        server.admit(request)
        parameters = (await json_body(request)).get("parameters") or {}
        await models.load(model, version_in(parameters, "version") if isinstance(parameters, dict) else "")
        return _json({"name": model, "version": models.models[model].active})

    @app.post("/v2/repository/models/{model}/unload", tags=["repository"], summary="Unload a model")
    async def unload(request: Request, model: str) -> Response:
        server.admit(request)
        await models.unload(model)
        return _json({"name": model})

    @app.post("/v2/repository/models/{model}/rollback", tags=["repository"], summary="Return to the previous version")
    async def rollback(request: Request, model: str) -> Response:
        server.admit(request)
        await models.rollback(model)
        return _json({"name": model, "version": models.models[model].active})

    @app.post(
        "/v2/repository/models/{model}/traffic", tags=["repository"], summary="Send a share of the requests to a canary, and copies of all to a shadow",
        openapi_extra=protocol.TRAFFIC_DOCS,
    )  # fmt: skip
    async def traffic(request: Request, model: str) -> Response:
        server.admit(request)
        traffic_request = await json_body(request)
        unknown = traffic_request.keys() - {"canary", "share", "shadow"}
        share = traffic_request.get("share", 0.0)
        if unknown or not isinstance(share, int | float) or isinstance(share, bool):
            raise Refusal('The body has to be an object such as {"canary": "3", "share": 0.1, "shadow": "4"}; {} ends both.')
        await models.split_traffic(model, version_in(traffic_request, "canary"), float(share), version_in(traffic_request, "shadow"))
        now = models.models[model]
        return _json({"name": model, "active": now.active, "canary": now.canary, "share": now.share, "shadow": now.shadow})


def version_in(body: Mapping[str, Any], name: str) -> str:
    found = body.get(name) or ""
    if not isinstance(found, str | int):
        raise Refusal(f'{name!r} has to be a version such as "3"; found {reprlib.repr(found)}.')
    return str(found)


# -- the verticals ----------------------------------------------------------------------------------------------------
def _verticals(app: FastAPI, server: Server) -> None:
    models = server.models

    @app.get("/v1/models", tags=["verticals"], summary="The models, their verticals and the kinds of request they take")
    async def listed(request: Request) -> Response:
        client = server.admit(request, ANY)
        rows = [(model, model.versions[model.active]) for model in models.models.values() if model.active and client.may(model.name)]
        return _json(
            [
                {
                    "name": model.name,
                    "version": one.version,
                    "vertical": one.bundle.usecase.name,
                    "takes": one.bundle.codec.takes,
                    "explains": isinstance(one.bundle.usecase, Explainable),
                }
                for model, one in rows
            ]
        )

    @app.get("/v1/models/{model}/example", tags=["verticals"], summary="The example request of the model", response_class=Response)
    async def example(request: Request, model: str, version: str = "") -> Response:
        server.admit(request, model)
        path = example_path(models.get(model, version).bundle.folder)
        return Response(
            await models.run_in_thread(path.read_bytes), media_type=mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        )

    @app.post(
        "/v1/models/{model}:predict", tags=["verticals"], summary="Predict on an image, a text or a history",
        openapi_extra=protocol.PREDICT_DOCS,
    )  # fmt: skip
    async def predict(request: Request, model: str, explain: bool = False, blocks: bool = False, version: str = "") -> Response:
        """`explain` adds an explanation to the answer; `blocks` adds the blocks from which a page draws it (`tasks.contract.blocks`)."""
        server.admit(request, model)
        served = models.route(model, version)
        with record_request(server, served, "v1", request.headers):
            content = read_content(await server.body(request), request.headers.get("content-type", ""))
            seconds = server.seconds(request)
            answer = await while_connected(request, models.answer(served, content, explain, seconds, blocks))
            return _json({"model": model, "version": served.version, **answer})


def read_content(body: bytes, content_type: str) -> Any:
    """The request in a body: a text, a JSON value, or the bytes of a file, which may also be sent as `{"b64": ...}`.

    Raises:
        Refusal: the body is empty, or not valid JSON, UTF-8 or base64.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        raise Refusal("The body is empty. Send an image, a text or JSON, whichever the model takes (GET /v1/models).")
    try:
        if kind.startswith("text/"):
            return body.decode("utf-8")
        if kind != "application/json":
            return body
        value = json.loads(body, parse_constant=_no_constant)
        return base64.b64decode(value["b64"], validate=True) if isinstance(value, dict) and value.keys() == {"b64"} else value
    except UnicodeDecodeError:
        raise Refusal("The body is not UTF-8 text.") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise Refusal(f"The body is not valid JSON: {error}.") from None
    except (binascii.Error, TypeError, ValueError):
        raise Refusal("The value of b64 is not valid base64.") from None


def _no_constant(name: str) -> None:
    raise Refusal(f"The JSON contains {name}, which is not a JSON number.")
