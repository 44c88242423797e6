"""The process of the server: it announces its address, and ends after all accepted requests are answered."""

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
    """Serve until SIGTERM or Ctrl-C; accepted requests are still answered.

    Returns:
        The exit status.

    Raises:
        SettingError: the repository does not exist, a port is taken, or settings are invalid.
    """
    if not repository.is_dir():
        raise SettingError(f"There is no folder {repository}: a bundle, or a repository of NAME/VERSION/ bundles was expected.")
    if bool(settings.certificate) != bool(settings.certificate_key):
        raise SettingError("--certificate and --certificate_key have to be given together.")
    if settings.certificate:
        check_certificate(settings.certificate, settings.certificate_key)
    providers_of(settings.device)
    for name in ("port", "grpc_port"):
        check_free(settings.host, getattr(settings, name), name)
    logs.configure_logging()
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
    server = AnnouncingServer(config)
    server.run()
    return 0 if server.started else 1


def check_certificate(certificate: str, key: str) -> None:
    """Raises `SettingError` if the files cannot be read, or the key is not that of the certificate."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as error:
        raise SettingError(
            f"--certificate {certificate} and --certificate_key {key} cannot be read as a certificate and its key in PEM: {error}."
        ) from None


def check_free(host: str, port: int, setting: str) -> None:
    """Check that a port is free.

    Args:
        host: address to listen on.
        port: 0 is always free.
        setting: name of the setting, for the error message.

    Raises:
        SettingError: the server cannot listen on the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a socket in TIME_WAIT does not block the port
        try:
            tried.bind((host, port))
        except OSError as error:
            raise SettingError(
                f"--{setting} {port}: cannot listen on {host}:{port}: {error.strerror}. Choose another port, or stop the program that uses it."
            ) from None


class AnnouncingServer(uvicorn.Server):
    """Prints its address once it accepts requests."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            scheme = "https" if self.config.ssl_certfile else "http"
            server = self.config.app.state.server  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
            names = ", ".join(f"{m.name} {m.active}" for m in server.models.models.values()) or "no model"
            calls = server.settings.grpc_port
            grpc = f", gRPC at port {calls}" if calls else ""
            print(f"Serving {names} at {scheme}://{host}:{port} (API docs: {scheme}://{host}:{port}/docs){grpc}", flush=True)
