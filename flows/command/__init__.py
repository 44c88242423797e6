"""The command `verticals`. Each subcommand is a function of its arguments, imported when it is called."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple, NoReturn

INTERRUPTED, TERMINATED, BROKEN_PIPE = 130, 143, 141  # what shells expect after Ctrl-C, SIGTERM and SIGPIPE


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: with its processes stopped."""


class Command(NamedTuple):
    module: str
    function: str
    summary: str


COMMANDS = {
    "run": Command("run", "run", "train, compress, evaluate and release a model from your data"),
    "serve": Command("models", "serve", "serve released models over HTTP and gRPC, with a page to try them"),
    "predict": Command("models", "predict", "answer requests: files or texts"),
    "explain": Command("models", "explain", "answer requests and explain the answers"),
    "score": Command("models", "score", "answer many requests; a line of JSON for each"),
    "publish": Command("models", "publish", "copy a model as the next version to a repository that a server reads"),
    "edge": Command("models", "edge", "a bundle for phones and boards, in ONNX Runtime's own format"),
    "overlay": Command("models", "overlay", "what a driving model sees, drawn over a video or pictures"),
    "key": Command("models", "key", "an API key for `serve --keys`"),
    "runs": Command("history", "runs", "the runs of this folder"),
    "compare": Command("history", "compare", "two runs: settings that differ, scores, latency, size"),
    "lineage": Command("history", "lineage", "what a model was made from"),
    "up": Command("machine", "up", "a Prefect server, the deployments and a worker on this machine"),
    "down": Command("machine", "down", "stop them"),
    "schedule": Command("machine", "schedule", "run a flow on your data at fixed times, on the worker"),
    "doctor": Command("machine", "doctor", "check this machine: what works, and what to do where something does not"),
}


def main() -> NoReturn:
    """Run one subcommand and end the process with its status: 0, 2 after a user's mistake, 130 after Ctrl-C."""
    stop_at_sigterm()
    try:
        _main()
    except BrokenPipeError:  # the reader of what was printed, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


def _main() -> NoReturn:
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name in ("--help", "-h", "help"):
        print(usage(), flush=True)
        sys.exit(0)
    if name == "--version":
        from importlib.metadata import version

        print(f"verticals {version('verticals')}")
        sys.exit(0)
    if name not in COMMANDS:
        print(f"There is no command {name!r}.{_suggested(name)} `verticals --help` lists them.", file=sys.stderr)
        sys.exit(2)
    _call(COMMANDS[name], arguments)


def stop_at_sigterm() -> None:
    """Have SIGTERM and SIGHUP raise `Terminated` from now on."""

    def terminate(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Terminated

    for number in (signal.SIGTERM, signal.SIGHUP):  # the latter where a terminal is closed
        signal.signal(number, terminate)


def usage() -> str:
    """What `verticals --help` prints."""
    listed = "\n".join(f"  {name:<10}{command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: verticals COMMAND ...\n\nTrain, compress, serve and explain models: recommendation, driving perception, image "
        f"classification, NLP.\n\n{listed}\n\nBegin with: verticals run image-classification sample --preset smoke\n"
        "`verticals COMMAND --help` shows the arguments of each. Results are in .verticals (or $VERTICALS_HOME)."
    )


def _call(command: Command, arguments: Sequence[str]) -> NoReturn:
    try:
        from tasks.contract.errors import UserError

        function = getattr(importlib.import_module(f"flows.command.{command.module}"), command.function)
        try:
            status = function(arguments)
            sys.stdout.flush()
            sys.exit(status)
        except UserError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
    except KeyboardInterrupt as stopped:
        print("\nStopped.", file=sys.stderr)
        sys.exit(TERMINATED if isinstance(stopped, Terminated) else INTERRUPTED)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("flows", "tasks", "usecases"):
            raise
        print(
            f"{error}. Another installed package, or a folder here, has the name of one of ours (flows, tasks, usecases): "
            f"{getattr(sys.modules.get('tasks'), '__path__', '')}. Use a virtual environment of its own for verticals.",
            file=sys.stderr,
        )
        sys.exit(2)


def _suggested(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    return f" Did you mean {near[0]}?" if near else ""
