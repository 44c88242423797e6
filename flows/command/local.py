"""A Prefect server, this project's deployments and a process worker on one machine: `verticals up`, `verticals down`.

Only what `up` started is stopped by `down`: each process group is known by a file in the state folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from flows.command.settings import FLOWS, prefect_file
from tasks.contract.artifacts import home
from tasks.contract.errors import UserError

DEFAULT_PORT = "4200"
POOL = "local"
PREFECT = Path(sys.executable).with_name("prefect")
START_SECONDS = 120


class StartError(UserError):
    """The server, a deployment or the worker did not start."""


def state() -> Path:
    """The folder of process numbers, logs and the server's database."""
    return home() / "local"


def port() -> int:
    """The port of the server: `$PREFECT_PORT`, or that of the last `verticals up` in this folder."""
    kept = state() / "port"
    return int(os.environ.get("PREFECT_PORT") or (kept.read_text(encoding="utf-8") if kept.exists() else DEFAULT_PORT))


def api() -> str:
    """The address of the server's API."""
    return f"http://127.0.0.1:{port()}/api"


def environment() -> dict[str, str]:
    """What the server, the worker and the runs are started with: paths are relative to the folder in which `up` was typed."""
    here = os.environ.get("PYTHONPATH")
    return os.environ | {
        "PREFECT_API_URL": api(),
        "PREFECT_HOME": str(state() / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PROJECT_DIR": str(Path.cwd()),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(FLOWS.parent), here))),
        "VERTICALS_HOME": str(home()),
    }


def up() -> None:
    """Start what does not run yet.

    Raises:
        StartError: the port is taken, or something does not start; its log is named.
    """
    state().mkdir(parents=True, exist_ok=True)
    if is_up():
        print(f"The server of an earlier `verticals up` is still there: http://127.0.0.1:{port()}")
    elif _answers():
        raise StartError(f"Something else answers on port {port()}. Stop it, or choose another port: PREFECT_PORT=4201 verticals up")
    else:
        _start("server", "server", "start", "--host", "127.0.0.1", "--port", str(port()))
        _wait_for_server()
        (state() / "port").write_text(str(port()), encoding="utf-8")
    prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
    prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_file()))
    if not _running("worker"):
        _start("worker", "worker", "start", "--pool", POOL, "--name", POOL)
    print(f"""
The server, the deployments and a worker are up.
  look       http://127.0.0.1:{port()}
  run        PREFECT_API_URL={api()} {_shown(PREFECT)} deployment run image-classification/smoke
  nightly    verticals schedule image-classification sample --cron "0 3 * * *" --preset smoke
  logs       {_shown(state())}/*.log
  stop       verticals down""")


def down() -> None:
    """Stop the worker and the server that `up` started."""
    for name in ("worker", "server"):
        process = _running(name)
        if process is None:
            print(f"No {name} of this folder is running.")
            continue
        _stop(process)
        print(f"Stopped the {name}.")
        (state() / f"{name}.pid").unlink(missing_ok=True)


def is_up() -> bool:
    """Whether the server that `up` started runs."""
    return _running("server") is not None


def prefect(*arguments: str) -> str:
    """Run Prefect's own command against the local server and return what it printed.

    Raises:
        StartError: it failed; the message has its output.
    """
    done = subprocess.run([PREFECT, *arguments], env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise StartError(f"`prefect {' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _start(name: str, *arguments: str) -> None:
    with (state() / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [PREFECT, *arguments], env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (state() / f"{name}.pid").write_text(f"{process.pid} {psutil.Process(process.pid).create_time()}")


def _running(name: str) -> psutil.Process | None:
    """The process, unless its number went to another one since."""
    try:
        pid, created = (state() / f"{name}.pid").read_text().split()
        process = psutil.Process(int(pid))
        return process if process.create_time() == float(created) and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def _stop(process: psutil.Process) -> None:
    family = [process, *process.children(recursive=True)]
    process.send_signal(signal.SIGINT if "worker" in process.cmdline() else signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=35)  # Prefect gives a cancelled run 30 s
    for survivor in alive:
        survivor.kill()
    psutil.wait_procs(alive, timeout=5)


def _answers() -> bool:
    try:
        with urllib.request.urlopen(f"{api()}/health", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _wait_for_server() -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers():
        if not _running("server") or time.monotonic() > deadline:
            raise StartError(f"The server did not come up. Its log: {state() / 'server.log'}")
        time.sleep(0.5)


def _shown(path: Path) -> str:
    return os.path.relpath(path)
