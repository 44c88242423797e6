"""Deploy a flow with a user's settings on a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from flows.command import local
from flows.command.settings import Flow, deployments
from tasks.contract.errors import SettingError


def deploy(flow: Flow, parameters: Mapping[str, Any], name: str, cron: str, timezone: str) -> str:
    """Register the flow with these parameters at the local server, to be run by the local worker.

    Args:
        flow: to be run.
        parameters: its records, as they were read from the command line.
        name: of the deployment; one of the same name is replaced.
        cron: when to run.
        timezone: of `cron`.

    Returns:
        What was scheduled and how to stop it, for people.

    Raises:
        SettingError: the cron line or the time zone is not valid.
        StartError: Prefect refuses the deployment.
    """
    check_schedule(cron, timezone)
    any_usecase = flow.name == "usecase"  # whose class has to be named, too
    stanza = {
        "name": name,
        "entrypoint": f"flows.{flow.name}.{flow.name}",
        "work_pool": {"name": local.POOL},
        "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
        "schedules": [{"cron": cron, "timezone": timezone, "active": True}],
        "parameters": {
            section: record.settings() if any_usecase and section == "usecase" else record.model_dump(mode="json", exclude_defaults=True)
            for section, record in parameters.items()
        },
    }
    title = f"{flow.name.replace('_', '-')}/{name}"
    file = local.state() / f"{title.replace('/', '-')}.yaml"
    file.write_text(yaml.safe_dump({"name": "verticals", "pull": deployments()["pull"], "deployments": [stanza]}), encoding="utf-8")
    local.prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(file))
    command = f"PREFECT_API_URL={local.api()} {local.PREFECT} deployment"
    return f"""{title} runs at {cron!r} ({timezone}) on the worker of `verticals up`.
  now        {command} run {title}
  stop       {command} delete {title}"""


def check_schedule(cron: str, timezone: str) -> None:
    """Refuse what is no schedule.

    Raises:
        SettingError: the cron line or the time zone is not valid.
    """
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        raise SettingError(f"--cron {cron!r}, --timezone {timezone}: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None
