"""Run a flow on this machine, quietly: the terminal view of the tasks speaks instead of Prefect's log."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from flows.command.settings import Options
from tasks.contract.errors import DataError, UserError

if TYPE_CHECKING:
    from tasks.contract.artifacts import Release

START_SECONDS = 120  # that Prefect's own server may take to start on a busy machine, unless Prefect's setting says otherwise
ANSWER_SECONDS = 10
STARVED = "Timed out while attempting to connect to ephemeral Prefect API server"
QUIET = {  # for this process and those that it starts: no chatter of libraries between the lines of the terminal view
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
    "PREFECT_LOGGING_ROOT_LEVEL": "CRITICAL",  # the temporary server's database prints traces of its own shutdown
}


class ServerError(UserError):
    """Prefect's server does not answer, or does not start."""


def run_flow(load: Callable[[], Any], parameters: Mapping[str, Any], options: Options) -> Release:
    """Run a flow and wait for its release.

    Args:
        load: imports the flow; called once everything is quiet.
        parameters: of the flow.
        options: the steps to compute again.

    Returns:
        The outcome of the flow.

    Raises:
        UserError: bad data, settings or bundles; or Prefect's server does not answer or start.
        KeyboardInterrupt: Ctrl-C; Terminated: SIGTERM.
    """
    check_data(parameters["usecase"])
    with _quiet(options.refresh):
        return _run(load, parameters)


@contextmanager
def _quiet(refresh: str) -> Iterator[None]:
    """Silence the libraries of this process and of those that it starts, which also get the store and the steps to compute again."""
    home = os.environ.get("VERTICALS_HOME") or str(Path(".verticals").resolve())
    before, level = dict(os.environ), logging.root.manager.disable
    os.environ.update({**QUIET, **before, "VERTICALS_HOME": home, "VERTICALS_REFRESH": refresh})
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _run(load: Callable[[], Any], parameters: Mapping[str, Any]) -> Release:
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_LOGGING_LEVEL,
        PREFECT_SERVER_ANALYTICS_ENABLED,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
        PREFECT_SERVER_LOGGING_LEVEL,
        temporary_settings,
    )

    flow = load()
    if address := PREFECT_API_URL.value():
        check_server(address)
    else:
        detach_server()
    quiet: dict[Any, Any] = {
        PREFECT_LOGGING_LEVEL: "CRITICAL",
        PREFECT_SERVER_LOGGING_LEVEL: "CRITICAL",
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    with temporary_settings(quiet, set_defaults={PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: START_SECONDS}):
        try:
            return flow(**parameters)
        except RuntimeError as error:
            if STARVED not in str(error):
                raise
            seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
            raise ServerError(
                f"Prefect's temporary server did not start within {seconds:g} s: this machine is busy. Try again later, set "
                "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS to more seconds, or start a server with `verticals up`."
            ) from None


def check_data(usecase: Any) -> None:
    """Refuse a path that does not exist before anything is started.

    Raises:
        DataError: nothing is there.
    """
    data = getattr(usecase, "data", None)
    if not type(usecase).__module__.startswith("usecases.") or not isinstance(data, str):
        return
    for part in data.split(","):
        if part.strip() != "sample" and "://" not in part and not Path(part.strip()).expanduser().exists() and not Path(data).exists():
            raise DataError(
                f"{part.strip()} does not exist. DATA is a folder or file, hf://owner/name, or sample; this folder is {Path.cwd()}."
            )


def detach_server() -> None:
    """Start Prefect's temporary server in a session of its own, so that Ctrl-C in a terminal does not end it before the run; `end` stops it."""
    from prefect.server.api import server

    detached = partial(subprocess.Popen, start_new_session=True)
    server.__dict__["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": detached})


def check_server(address: str) -> None:
    """Ask a Prefect server for its health before anything depends on it.

    Raises:
        ServerError: it does not answer, or something else does.
    """
    remedy = "Start it (`verticals up` starts one here), or run without one: unset PREFECT_API_URL."
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=ANSWER_SECONDS) as answer:
            healthy = answer.read(16).strip() == b"true"
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):  # a server that wants a key, which Prefect's client sends
            return
        healthy = False
    except (OSError, ValueError) as error:
        raise ServerError(f"No Prefect server answers at PREFECT_API_URL={address} ({getattr(error, 'reason', error)}). {remedy}") from None
    if not healthy:
        raise ServerError(f"What answers at PREFECT_API_URL={address} is no Prefect server. {remedy}")


def end(status: int, message: str = "") -> NoReturn:
    """End this process at once with a sentence, after the temporary server has been stopped; a second Ctrl-C changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if message:
        print(f"\n{message}", file=sys.stderr)
    if "prefect.server.api.server" in sys.modules:
        servers = sys.modules["prefect.server.api.server"].SubprocessASGIServer
        for server in list(servers._instances.values()):
            with suppress(Exception):
                server.stop()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
