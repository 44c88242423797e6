"""The server's HTTP: the Open Inference Protocol under /v2, the verticals' own words under /v1."""

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
from tasks.serving.logs import note
from tasks.serving.refusals import ClientDisconnected, Refusal
from tasks.serving.settings import Serving

T = TypeVar("T")
DRAIN_SECONDS = 30
PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
PREDICTIONS_SECONDS = 60.0  # after which those that have come are written, however few
JSON_LENGTH = "Inference-Header-Content-Length"
PATIENCE = 0.02  # seconds of an answer, after which it is looked whether the client still waits


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result; where the client goes away before, the work is dropped. The body must have been read.

    Raises:
        ClientDisconnected: it went away.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    leaving: asyncio.Task[Any] | None = None
    over = False

    def left(one: asyncio.Task[Any]) -> None:
        if not over and not one.cancelled():  # it may be told of that only after the work was done
            task.cancel()

    def look() -> None:
        nonlocal leaving
        leaving = loop.create_task(request.receive())  # pyright: ignore[reportArgumentType]
        leaving.add_done_callback(left)

    timer = loop.call_later(PATIENCE, look)  # most answers are there sooner, and looking costs
    try:
        return await work
    except asyncio.CancelledError:
        if leaving is None or not leaving.done():
            raise
        task.uncancel()
        raise ClientDisconnected("The client went away.") from None
    finally:
        over = True
        timer.cancel()
        if leaving is not None:
            leaving.cancel()


@contextlib.asynccontextmanager
async def lifespan(server: Server) -> AsyncIterator[None]:
    """Models are loaded before the first request; what was asked is answered before the server ends."""
    await server.models.load_all()  # the log tells of versions that cannot be
    calls = None
    if server.settings.grpc_port:
        from tasks.serving import rpc

        calls = await rpc.start(server)
    behind = [asyncio.create_task(server.models.watch())] if server.settings.watch_seconds else []
    if server.models.predictions:
        behind.append(asyncio.create_task(server.models.predictions.run(PREDICTIONS_SECONDS)))
    yield
    note("draining")
    for task in behind:
        task.cancel()
    if calls is not None:
        await calls.stop(DRAIN_SECONDS)
    await server.models.close()
    if server.traces:
        await asyncio.to_thread(server.traces.close)


def make_app(repository: Path, settings: Serving) -> FastAPI:
    """Raises `SettingError`: the file of keys cannot be read."""
    server = Server(repository, settings)
    app = FastAPIOffline(  # its page of the API loads nothing from elsewhere
        redoc_url=None,
        title="Verticals",
        summary="Models by the Open Inference Protocol, and in the words of their verticals.",
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

    @app.get("/metrics", tags=["monitoring"], response_class=Response, summary="For Prometheus")
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
        note("request failed", logging.ERROR, error, path=request.url.path, number=number)
        return _json({"error": f"The server failed; its log tells more under {number}."}, 500)


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), status, headers, media_type="application/json")


# -- the Open Inference Protocol --------------------------------------------------------------------------------------
def _protocol(app: FastAPI, server: Server) -> None:
    models = server.models

    @app.get("/v2/health/live", tags=["health"], summary="Whether the process answers")
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready", tags=["health"], summary="Whether all models answer")
    async def ready() -> Response:
        return _json({"ready": models.ready()}, 200 if models.ready() else 503)

    @app.get("/v2", tags=["metadata"], summary="The server and what it can do")
    async def about(request: Request) -> Response:
        server.admit(request)
        return _json(protocol.server_metadata())

    @app.get("/v2/models/stats", tags=["metadata"], summary="Statistics of all models")
    async def all_statistics(request: Request) -> Response:
        server.admit(request)
        return _json({"model_stats": [protocol.statistics(v) for model in models.models.values() for v in model.versions.values()]})

    for where in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        versioned = "version}" in where

        @app.get(where, tags=["metadata"], summary="Inputs and outputs", name=f"metadata {versioned}")
        async def metadata(request: Request, model: str, version: str = "") -> Response:
            server.admit(request, model)
            return _json(protocol.model_metadata(models.get(model, version), list(models.models[model].versions)))

        @app.get(f"{where}/ready", tags=["health"], summary="Whether the model answers", name=f"model ready {versioned}")
        async def model_ready(request: Request, model: str, version: str = "") -> Response:
            server.admit(request, model)
            models.get(model, version)
            return _json({"name": model, "ready": True})

        @app.get(f"{where}/config", tags=["metadata"], summary="Batching and instances", name=f"config {versioned}")
        async def config(request: Request, model: str, version: str = "") -> Response:
            server.admit(request, model)
            return _json(protocol.model_config(models.get(model, version), server.settings))

        @app.get(f"{where}/stats", tags=["metadata"], summary="Statistics", name=f"stats {versioned}")
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
                asked = await server.read(body, _length(request))
                seconds = server.seconds(request, asked.parameters.get("timeout"))
                outputs = await while_connected(request, models.infer(served, asked.inputs, seconds))
                written, length = await server.written(served, asked, outputs)
                if length is None:
                    return Response(written, media_type="application/json")
                return Response(written, headers={JSON_LENGTH: str(length)}, media_type="application/octet-stream")

        async def at_once(request: Request, infer: Any = infer) -> Response:
            return await infer(request, **request.path_params)

        documented = {"tags": ["inference"], "summary": "Tensors in, tensors out", "openapi_extra": protocol.INFER_DOCS}
        app.post(f"{where}/infer", name=f"infer {versioned}", **documented)(infer)
        app.router.routes.insert(
            0, Route(f"{where}/infer", at_once, methods=["POST"])
        )  # FastAPI's own way costs half as much as all the rest


def _length(request: Request) -> int | None:
    told = request.headers.get(JSON_LENGTH)
    if told is None:
        return None
    if not told.isdecimal() or len(told) > 12:
        raise Refusal(f"{JSON_LENGTH} is {told[:40]!r}: a number of bytes was expected.")
    return int(told)


# -- the repository ---------------------------------------------------------------------------------------------------
def _repository(app: FastAPI, server: Server) -> None:
    models = server.models

    async def given(request: Request) -> dict[str, Any]:
        body = await server.body(request)
        try:
            value = orjson.loads(body) if body.strip() else {}
        except orjson.JSONDecodeError as error:
            raise Refusal(f"The body is no JSON: {error}.") from None
        if not isinstance(value, dict):
            raise Refusal("The body should be an object of JSON.")
        return value

    @app.post("/v2/repository/index", tags=["repository"], summary="All versions, and whether they are served")
    async def index(request: Request) -> Response:
        server.admit(request)
        ready = (await given(request)).get("ready") is True
        rows = await models.in_thread(models.index)
        return _json([row for row in rows if row["state"] == "READY" or not ready])

    @app.post(
        "/v2/repository/models/{model}/load", tags=["repository"], summary="Serve the newest version, or the one in parameters.version"
    )
    async def load(request: Request, model: str) -> Response:
        server.admit(request)
        parameters = (await given(request)).get("parameters") or {}
        await models.load(model, version_in(parameters, "version") if isinstance(parameters, dict) else "")
        return _json({"name": model, "version": models.models[model].active})

    @app.post("/v2/repository/models/{model}/unload", tags=["repository"], summary="Take a model away")
    async def unload(request: Request, model: str) -> Response:
        server.admit(request)
        await models.unload(model)
        return _json({"name": model})

    @app.post("/v2/repository/models/{model}/rollback", tags=["repository"], summary="At once back to the version before")
    async def rollback(request: Request, model: str) -> Response:
        server.admit(request)
        await models.rollback(model)
        return _json({"name": model, "version": models.models[model].active})

    @app.post(
        "/v2/repository/models/{model}/traffic", tags=["repository"], summary="A canary gets a share of the requests, a shadow copies of them",
        openapi_extra=protocol.TRAFFIC_DOCS,
    )  # fmt: skip
    async def traffic(request: Request, model: str) -> Response:
        server.admit(request)
        wish = await given(request)
        unknown = wish.keys() - {"canary", "share", "shadow"}
        share = wish.get("share", 0.0)
        if unknown or not isinstance(share, int | float) or isinstance(share, bool):
            raise Refusal('The body should be such as {"canary": "3", "share": 0.1, "shadow": "4"}, or {} for neither.')
        await models.split(model, version_in(wish, "canary"), float(share), version_in(wish, "shadow"))
        now = models.models[model]
        return _json({"name": model, "active": now.active, "canary": now.canary, "share": now.share, "shadow": now.shadow})


def version_in(given: Mapping[str, Any], name: str) -> str:
    found = given.get(name) or ""
    if not isinstance(found, str | int):
        raise Refusal(f'{name!r} should be a version, such as "3", not {reprlib.repr(found)}.')
    return str(found)


# -- the verticals ----------------------------------------------------------------------------------------------------
def _verticals(app: FastAPI, server: Server) -> None:
    models = server.models

    @app.get("/v1/models", tags=["verticals"], summary="What can be asked")
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

    @app.get("/v1/models/{model}/example", tags=["verticals"], summary="The real request that came with the model", response_class=Response)
    async def example(request: Request, model: str, version: str = "") -> Response:
        server.admit(request, model)
        path = example_path(models.get(model, version).bundle.folder)
        return Response(
            await models.in_thread(path.read_bytes), media_type=mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        )

    @app.post(
        "/v1/models/{model}:predict", tags=["verticals"], summary="An image, a text or a history in, an answer in words out",
        openapi_extra=protocol.PREDICT_DOCS,
    )  # fmt: skip
    async def predict(request: Request, model: str, explain: bool = False, blocks: bool = False, version: str = "") -> Response:
        """With `explain`, the answer has its explanation; with `blocks`, what a page needs to draw it (`tasks.contract.blocks`)."""
        server.admit(request, model)
        served = models.route(model, version)
        with record_request(server, served, "v1", request.headers):
            asked = sent(await server.body(request), request.headers.get("content-type", ""))
            seconds = server.seconds(request)
            answer = await while_connected(request, models.answer(served, asked, explain, seconds, blocks))
            return _json({"model": model, "version": served.version, **answer})


def sent(body: bytes, content_type: str) -> Any:
    """What was asked: a text, a value of JSON, the bytes of `{"b64": ...}`, or of a file.

    Raises:
        Refusal: no JSON, no text in UTF-8, or no base64.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        raise Refusal("The body is empty: send an image, a text or JSON, as the vertical takes it.")
    try:
        if kind.startswith("text/"):
            return body.decode("utf-8")
        if kind != "application/json":
            return body
        value = json.loads(body, parse_constant=_no_constant)
        return base64.b64decode(value["b64"], validate=True) if isinstance(value, dict) and value.keys() == {"b64"} else value
    except UnicodeDecodeError:
        raise Refusal("The body is no text in UTF-8.") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise Refusal(f"The body is no JSON: {error}.") from None
    except (binascii.Error, TypeError, ValueError):
        raise Refusal("The text under b64 is no base64.") from None


def _no_constant(name: str) -> None:
    raise Refusal(f"The JSON holds {name}.")
