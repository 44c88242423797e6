"""`verticals up | down | schedule | doctor`: Prefect and this machine."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from flows.command import doctor as checks
from flows.command import local
from flows.command.settings import flow_of, parse
from tasks.contract.errors import SettingError


def up(arguments: Sequence[str]) -> int:
    """`verticals up`."""
    argparse.ArgumentParser(
        prog="verticals up", description="Start a Prefect server, the deployments and a worker here. PREFECT_PORT chooses the port."
    ).parse_args(arguments)
    local.up()
    return 0


def down(arguments: Sequence[str]) -> int:
    """`verticals down`."""
    argparse.ArgumentParser(prog="verticals down", description="Stop what `verticals up` started.").parse_args(arguments)
    local.down()
    return 0


def schedule(arguments: Sequence[str]) -> int:
    """`verticals schedule VERTICAL [DATA] --cron CRON [--name NAME] [settings]`: deploy the flow with these settings on a schedule.

    Raises:
        SettingError: no such vertical or setting, or no valid cron line.
        StartError: no server of `verticals up` runs.
    """
    parser = argparse.ArgumentParser(
        prog="verticals schedule",
        usage='verticals schedule VERTICAL [DATA] --cron "0 3 * * *" [--name NAME] [--timezone ZONE] [settings of `verticals run`]',
        description="Run a flow on your data at fixed times, on the worker that `verticals up` starts.",
        allow_abbrev=False,
    )
    parser.add_argument("vertical", metavar="VERTICAL", help="such as nlp")
    parser.add_argument("--cron", required=True, help='minute, hour, day, month, weekday: "0 3 * * *" is every night at three')
    parser.add_argument("--name", default="scheduled", help="of the deployment; one of the same name is replaced (default: scheduled)")
    parser.add_argument("--timezone", default="Etc/UTC", help="of the cron line (default: Etc/UTC)")
    given, rest = parser.parse_known_args(arguments)
    flow = flow_of(given.vertical)
    parameters, _ = parse(flow, rest)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", given.name):
        raise SettingError(f"--name {given.name!r}: small letters, digits, hyphens and underscores were expected.")
    if not local.is_up():
        raise local.StartError("There is no server of this folder to keep the schedule. Start it first: verticals up")
    from flows.command.deploying import deploy

    print(deploy(flow, parameters, given.name, given.cron, given.timezone))
    return 0


def doctor(arguments: Sequence[str]) -> int:
    """`verticals doctor`: 0 where everything works, else 1."""
    argparse.ArgumentParser(prog="verticals doctor", description="Check this machine.").parse_args(arguments)
    return checks.report()
