"""The server's process: it listens, says so, and goes once it has answered what it was asked."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import uvicorn

from tasks.contract.errors import SettingError
from tasks.serving import logs
from tasks.serving.app import DRAIN_SECONDS, make_app
from tasks.serving.sessions import providers_of
from tasks.serving.settings import Serving


def serve(repository: Path, settings: Serving) -> int:
    """Serve until told to stop (SIGTERM, Ctrl-C); what was asked before is answered.

    Raises:
        SettingError: no such repository, or a setting that cannot be.
    """
    if not repository.is_dir():
        raise SettingError(f"There is no folder {repository}: a bundle, or a repository of NAME/VERSION/ bundles was expected.")
    if bool(settings.certificate) != bool(settings.certificate_key):
        raise SettingError("--certificate and --certificate_key belong together.")
    if settings.certificate:
        check_certificate(settings.certificate, settings.certificate_key)
    providers_of(settings.device)
    for name in ("port", "grpc_port"):
        check_free(settings.host, getattr(settings, name), name)
    logs.begin()
    app = make_app(repository, settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_certfile=settings.certificate or None,
        ssl_keyfile=settings.certificate_key or None,
    )
    server = Announced(config)
    server.run()
    return 0 if server.started else 1


def check_certificate(certificate: str, key: str) -> None:
    """Raises `SettingError`: they cannot be read, or do not belong together."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as error:
        raise SettingError(
            f"--certificate {certificate} and --certificate_key {key} cannot be read as a certificate and its key in PEM: {error}."
        ) from None


def check_free(host: str, port: int, setting: str) -> None:
    """Raises `SettingError`: nobody can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that has just ended does not count
        try:
            tried.bind((host, port))
        except OSError as error:
            raise SettingError(
                f"--{setting} {port}: {host} cannot be listened at: {error.strerror}. Choose another port or stop that program."
            ) from None


class Announced(uvicorn.Server):
    """Says where it listens, once it does."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            scheme = "https" if self.config.ssl_certfile else "http"
            server = self.config.app.state.server  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
            names = ", ".join(f"{m.name} {m.active}" for m in server.models.models.values()) or "no model"
            calls = server.settings.grpc_port
            also = f", gRPC at port {calls}" if calls else ""
            print(f"Serving {names} at {scheme}://{host}:{port} (its API: {scheme}://{host}:{port}/docs){also}", flush=True)
