"""`verticals run VERTICAL [DATA]`, and the same behind `python -m flows.VERTICAL`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from flows.command import INTERRUPTED, TERMINATED, Terminated, stop_at_sigterm
from flows.command.help import help_text
from flows.command.running import end, run_flow
from flows.command.settings import Flow, flow_of, parse
from tasks.contract.errors import SettingError, UserError
from tasks.contract.plugins import entry_points

STOPPED = "Stopped. The same command resumes where it was."


def run(arguments: Sequence[str]) -> NoReturn:
    """`verticals run VERTICAL [DATA] [settings]`."""
    if not arguments or arguments[0].startswith("-"):
        names = ", ".join(sorted(name.replace("_", "-") for name in entry_points()))
        print(
            f"usage: verticals run VERTICAL [DATA] [settings]\n\nVerticals: {names}.\n`verticals run VERTICAL --help` shows the settings."
        )
        sys.exit(0 if arguments else 2)
    flow = _or_refuse(lambda: flow_of(arguments[0]))
    run_or_help(flow, f"verticals run {arguments[0]}", arguments[1:], flow.load)


def run_or_help(flow: Flow, command: str, arguments: Sequence[str], load: Callable[[], Any]) -> NoReturn:
    """Show help, or run the flow and end the process.

    Args:
        flow: whose settings the arguments are.
        command: as it was typed, for help.
        arguments: what follows it.
        load: imports the Prefect flow.

    Returns:
        Never: the process ends with 0, 2 after a user's mistake, 130 after Ctrl-C, 143 after SIGTERM.
    """
    wanted = next((place for place, argument in enumerate(arguments) if argument in ("--help", "-h")), None)
    if wanted is not None:
        print(_or_refuse(lambda: help_text(flow, command, "".join(arguments[wanted + 1 : wanted + 2]))), flush=True)
        sys.exit(0)
    stop_at_sigterm()
    logging.disable(logging.CRITICAL)  # to the end of the process: Prefect logs its shutdown, too
    try:
        parameters, options = parse(flow, arguments)
        release = run_flow(load, parameters, options)
    except UserError as error:
        end(2, str(error))
    except Terminated:
        end(TERMINATED, STOPPED)
    except KeyboardInterrupt:
        end(INTERRUPTED, STOPPED)
    if options.json:
        print(json.dumps(release.as_json()))
    sys.exit(0)


def _or_refuse(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except SettingError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
