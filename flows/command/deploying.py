"""Deploy a flow with a user's settings on a schedule."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.command import local
from flows.command.settings import Flow
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
        SettingError: the cron line or the time zone is not one.
    """
    os.environ |= local.environment()
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.types.entrypoint import EntrypointType

    try:
        times = CronSchedule(cron=cron, timezone=timezone)
    except ValueError as error:
        raise SettingError(f"--cron {cron!r}, --timezone {timezone}: {str(error).splitlines()[2].strip()}.") from None
    deployment = flow.load().to_deployment(
        name=name,
        schedules=[times],
        parameters={section: record.model_dump(mode="json", exclude_defaults=True) for section, record in parameters.items()},
        concurrency_limit=1,
        work_pool_name=local.POOL,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment.path = str(Path.cwd())
    deployment.apply()
    title = f"{flow.title}/{name}"
    return f"""{title} runs at {cron!r} ({timezone}) on the worker of `verticals up`.
  now        PREFECT_API_URL={local.API} {local.PREFECT} deployment run {title}
  stop       PREFECT_API_URL={local.API} {local.PREFECT} deployment delete {title}"""
