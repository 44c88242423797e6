"""The command line of every flow, generated from its signature: the same settings as the form in Prefect's UI."""

from __future__ import annotations

import difflib
import inspect
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from prefect import Flow
from prefect.logging.configuration import setup_logging
from prefect.settings import (
    PREFECT_LOGGING_LEVEL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_SERVER_LOGGING_LEVEL,
    temporary_settings,
)
from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict, SettingsError

from tasks.compression.methods import METHODS
from tasks.contract.errors import SettingError, UserError
from tasks.contract.plugins import entry_points
from tasks.contract.usecase import UseCase

PRESETS = Path(__file__).parents[1] / "prefect.yaml"
START_SECONDS = 120  # that Prefect's own server may take to start on a busy machine, where nobody says otherwise
STEPS = ("all", "prepare", "baselines", "pretrain", "fine_tune", "adapt", "distil", *METHODS, "export", "quantize", "evaluate", "explain")
INTERRUPTED = 130  # what shells expect after Ctrl-C


class Options(NamedTuple):
    """What the command line is told beyond the parameters of the flow."""

    json: bool
    refresh: str


def main(flow: Flow[Any, Any]) -> NoReturn:
    """Run a flow from the command line: `--preset NAME`, `--refresh STEP`, `--json` and every setting of the flow's signature."""
    _main(flow, sys.argv[1:])


def main_of(flow: Flow[Any, Any]) -> NoReturn:
    """The same for a flow that takes any use case, whose name among the entry points comes first on the command line."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    known = entry_points()
    if name not in known:
        print(
            f"\nThere is no use case {name!r}. There are: {', '.join(sorted(known))}. Name one: python -m flows.usecase NAME",
            file=sys.stderr,
        )
        sys.exit(2)
    _main(flow, arguments, known[name].load())


def _main(flow: Flow[Any, Any], arguments: list[str], usecase: type[UseCase] | None = None) -> NoReturn:
    try:
        parameters, options = parse(flow, arguments, usecase)
        os.environ["VERTICALS_REFRESH"] = options.refresh
        release = _run(flow, parameters)
    except UserError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nStopped. The same command resumes where it was.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if options.json:
        print(json.dumps(release.as_json()))
    sys.exit(0)


def parse(flow: Flow[Any, Any], arguments: list[str], usecase: type[UseCase] | None = None) -> tuple[dict[str, Any], Options]:
    """The flow's parameters: what is typed, over the preset, over the defaults; and the other options.

    Args:
        flow: whose signature names the settings.
        arguments: as they are typed.
        usecase: the class of the use case, where the flow takes any.

    Raises:
        SettingError: unknown preset, step or setting, or a value that does not fit, with the nearest right name.
    """
    known = presets(flow)
    settings_class = _settings_class(flow, known, usecase)
    try:
        typed = CliSettingsSource(settings_class, cli_parse_args=False, cli_exit_on_error=False)(args=arguments)()
    except SettingsError as error:
        raise SettingError(_suggest(str(error), settings_class)) from None
    options, preset = Options(bool(typed.pop("json", False)), _steps(typed.pop("refresh", ""))), typed.pop("preset", None)
    if preset is not None and preset not in known:
        raise SettingError(f"There is no preset {preset!r} for {flow.name}. There are: {', '.join(known)}.")
    try:
        settings = settings_class.model_validate(_merged(known[preset] if preset else {}, typed))
    except ValidationError as error:
        raise SettingError(_in_words(error)) from None
    return {name: getattr(settings, name) for name in inspect.signature(flow.fn).parameters}, options


def presets(flow: Flow[Any, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of the flow's deployments in prefect.yaml, by name."""
    entrypoint = f"{flow.fn.__module__.replace('__main__', _module_name(flow))}.{flow.fn.__name__}"
    deployments = yaml.safe_load(PRESETS.read_text(encoding="utf-8"))["deployments"]
    return {d["name"]: d.get("parameters") or {} for d in deployments if d["entrypoint"] == entrypoint}


def _module_name(flow: Flow[Any, Any]) -> str:
    return f"flows.{Path(inspect.getfile(flow.fn)).stem}"


def _steps(refresh: str) -> str:
    for step in filter(None, refresh.split(",")):
        if step not in STEPS:
            near = difflib.get_close_matches(step, STEPS, n=1)
            raise SettingError(
                f"--refresh {step}: there is no such step. " + (f"Did you mean {near[0]}?" if near else f"There are: {', '.join(STEPS)}.")
            )
    return refresh


def _settings_class(flow: Flow[Any, Any], known: dict[str, Any], usecase: type[UseCase] | None) -> type[BaseSettings]:
    signature = inspect.signature(flow.fn, eval_str=True)
    fields: dict[str, Any] = {name: (p.annotation, p.default) for name, p in signature.parameters.items()}
    if usecase is not None:
        fields["usecase"] = (usecase, usecase())
    fields["preset"] = (str, Field(default="", description=f"start from a preset of prefect.yaml: {', '.join(known)}"))
    fields["refresh"] = (str, Field(default="", description=f"compute a step again though its result is in the store: {', '.join(STEPS)}"))
    fields["json"] = (bool, Field(default=False, description="print the release as JSON, the last line of standard output"))
    config = SettingsConfigDict(
        cli_prog_name=f"python -m {_module_name(flow)}",
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        extra="forbid",
    )
    base = type("Settings", (BaseSettings,), {"model_config": config})
    with warnings.catch_warnings(action="ignore"):  # pydantic wonders at a field called `json`, a method of old
        return create_model(flow.name, __base__=base, __doc__=inspect.getdoc(flow.fn), **fields)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        merged[name] = _merged(merged.get(name, {}), value) if isinstance(value, dict) else value
    return merged


def _suggest(message: str, settings_class: type[BaseModel]) -> str:
    unknown = re.search(r"unrecognized arguments: (--[\w.]+)", message)
    if unknown is None:
        return f"{message}. See --help."
    options = [f"--{name}" for name in _names(settings_class)]
    near = difflib.get_close_matches(unknown[1], options, n=1)
    return f"There is no setting {unknown[1]}." + (f" Did you mean {near[0]}?" if near else " See --help.")


def _names(settings: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Of all settings, those inside of others with dots."""
    for name, field in settings.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{prefix}{name}.")


def _in_words(error: ValidationError) -> str:
    return "\n".join(_refused(detail) for detail in error.errors())


def _refused(detail: Any) -> str:
    setting = f"--{'.'.join(str(part) for part in detail['loc'])}"
    if detail["type"] == "value_error":  # of our own, which says what it was
        return f"{setting}: {detail['ctx']['error']}"
    return f"{setting}: {detail['msg']} (it was {detail['input']!r})."


def _run(flow: Flow[Any, Any], parameters: dict[str, Any]) -> Any:
    quiet: dict[Any, Any] = {
        PREFECT_LOGGING_LEVEL: "CRITICAL",  # the terminal view speaks instead
        PREFECT_SERVER_LOGGING_LEVEL: "CRITICAL",  # the ephemeral server prints traces of its own shutdown,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    warnings.simplefilter("ignore")
    with temporary_settings(quiet, set_defaults={PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: START_SECONDS}):
        setup_logging()
        os.environ["PREFECT_LOGGING_ROOT_LEVEL"] = "CRITICAL"  # and so does its database, which no setting reaches
        return flow(**parameters)
