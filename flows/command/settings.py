"""The settings of a flow on the command line: generated from its signature, as the form in Prefect's UI is.

The signature is read from the flow's source. Importing a flow would import Prefect, which takes longer than showing help may take.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, CliPositionalArg, CliSettingsSource, SettingsConfigDict, SettingsError

from tasks.compression.methods import METHODS
from tasks.contract.errors import SettingError
from tasks.contract.plugins import entry_points
from tasks.contract.usecase import UseCase

FLOWS = Path(__file__).parents[1]
STEPS = ("all", "prepare", "baselines", "pretrain", "fine_tune", "adapt", "distil", *METHODS, "export", "quantize", "evaluate", "explain")
SHORT = {"epochs": ("fit", "epochs"), "minutes": ("fit", "max_minutes")}


class Options(NamedTuple):
    """What the command line takes beyond the parameters of the flow."""

    json: bool
    refresh: str


@dataclass(frozen=True)
class Flow:
    """What the command line needs to know of a flow without importing it."""

    name: str
    """Of its module and function, such as `image_classification`."""
    title: str
    """As people type it, with hyphens; of another package's use case its own name."""
    summary: str
    sections: Mapping[str, type[BaseModel]]
    """The parameters and the classes of their settings."""

    @property
    def takes_data(self) -> bool:
        return "data" in self.sections["usecase"].model_fields

    @functools.cached_property
    def settings_class(self) -> type[BaseSettings]:
        """All settings of the flow, the short names and the options."""
        return _settings_class(self)

    def load(self) -> Any:
        """The Prefect flow itself."""
        return getattr(importlib.import_module(f"flows.{self.name}"), self.name)


def flow_of(vertical: str) -> Flow:
    """The flow of a vertical, or the general one for another package's use case.

    Raises:
        SettingError: there is no such vertical; the message names those that exist.
    """
    name, known = vertical.replace("-", "_"), entry_points()
    if name in known and (FLOWS / f"{name}.py").exists():
        return read_flow(name)
    if name in known:
        return read_flow("usecase", known[name].load())
    names = sorted(one.replace("_", "-") for one in known)
    near = difflib.get_close_matches(vertical.replace("_", "-"), names, n=1)
    raise SettingError(
        f"There is no vertical {vertical!r}. " + (f"Did you mean {near[0]}? " if near else "") + f"There are: {', '.join(names)}."
    )


def read_flow(name: str, usecase: type[UseCase] | None = None) -> Flow:
    """Read the signature of the flow in `flows/NAME.py`; `usecase` is the class of its first parameter where the flow takes any."""
    tree = ast.parse((FLOWS / f"{name}.py").read_text(encoding="utf-8"))
    origin = {alias.name: node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    classes = {argument.arg: ast.unparse(argument.annotation or argument) for argument in function.args.args}
    given = {"usecase": usecase} if usecase else {}
    sections = {parameter: given.get(parameter) or getattr(importlib.import_module(origin[of]), of) for parameter, of in classes.items()}
    title = (usecase.name if usecase else name).replace("_", "-")
    return Flow(name, title, ast.get_docstring(function) or "", sections)


def parse(flow: Flow, arguments: Sequence[str]) -> tuple[dict[str, Any], Options]:
    """The flow's parameters: what is typed, over the preset, over the defaults; and the other options.

    Args:
        flow: whose signature names the settings.
        arguments: as they are typed.

    Returns:
        The value of each parameter, and the options.

    Raises:
        SettingError: unknown preset, step or setting, or a value that does not fit, with the nearest right name.
    """
    settings_class = flow.settings_class
    try:
        source = CliSettingsSource(settings_class, cli_parse_args=False, cli_exit_on_error=False)
        typed = source(args=[_underscored(argument) for argument in arguments])()
    except SettingsError as error:
        raise SettingError(_suggest(str(error), settings_class)) from None
    options = Options(bool(typed.pop("json", False)), typed.pop("refresh", ""))
    preset, data = typed.pop("preset", ""), typed.pop("data", None)
    short = {path: typed.pop(name) for name, path in SHORT.items() if name in typed}
    if data is not None:
        short["usecase", "data"] = data
    return fill(flow, preset, {**typed, **_nested(short, typed)}, options)


def fill(flow: Flow, preset: str, given: Mapping[str, Any], options: Options) -> tuple[dict[str, Any], Options]:
    """The flow's parameters from a preset and nested settings.

    Args:
        flow: whose signature names the settings.
        preset: the name of one in prefect.yaml; empty: none.
        given: settings or whole records by parameter; they win over the preset.
        options: checked and returned.

    Returns:
        The value of each parameter, and the options.

    Raises:
        SettingError: as `parse` does.
    """
    known = presets(flow)
    if preset and preset not in known:
        near = difflib.get_close_matches(preset, known, n=1)
        raise SettingError(
            f"There is no preset {preset!r} for {flow.title}. "
            + (f"Did you mean {near[0]}? " if near else "")
            + f"There are: {', '.join(known)}."
        )
    _check_steps(options.refresh)
    settings_class = flow.settings_class
    try:
        settings = settings_class.model_validate(_merged(known[preset] if preset else {}, given))
    except ValidationError as error:
        raise SettingError("\n".join(_refused(detail, settings_class) for detail in error.errors())) from None
    return {name: getattr(settings, name) for name in flow.sections}, options


def presets(flow: Flow) -> dict[str, dict[str, Any]]:
    """The parameters of the flow's deployments in prefect.yaml, by name."""
    entrypoint = f"flows.{flow.name}.{flow.name}"
    return {d["name"]: d.get("parameters") or {} for d in deployments()["deployments"] if d["entrypoint"] == entrypoint}


def deployments() -> dict[str, Any]:
    """What prefect.yaml says."""
    return yaml.load(prefect_file().read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def prefect_file() -> Path:
    """The project's prefect.yaml: at the top of a checkout, or in the package where it was installed from a wheel."""
    return next(path for path in (FLOWS.parent / "prefect.yaml", FLOWS / "prefect.yaml") if path.exists())


def names(settings: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The names of all settings, those inside of others with dots."""
    for name, field in settings.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names(field.annotation, f"{prefix}{name}.")


def _underscored(argument: str) -> str:
    """`--fit.max-minutes` is `--fit.max_minutes`; values stay as they are."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    no = "--no-" if name.startswith("--no-") else "--"
    return f"{no}{name.removeprefix(no).replace('-', '_')}{equals}{value}"


def _nested(short: Mapping[tuple[str, str], Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The short names in their sections.

    Raises:
        SettingError: a setting is given by its short and by its whole name, with two values.
    """
    nested: dict[str, Any] = {}
    for (section, name), value in short.items():
        inside = nested.setdefault(section, dict(typed.get(section, {})))
        if str(inside.get(name, value)) != str(value):
            raise SettingError(f"--{section}.{name} is given twice: {inside[name]} and {value}.")
        inside[name] = value
    return nested


def _check_steps(refresh: str) -> None:
    for step in filter(None, refresh.split(",")):
        if step not in STEPS:
            near = difflib.get_close_matches(step, STEPS, n=1)
            raise SettingError(
                f"--refresh {step}: there is no such step. " + (f"Did you mean {near[0]}?" if near else f"There are: {', '.join(STEPS)}.")
            )


def _settings_class(flow: Flow) -> type[BaseSettings]:
    fields: dict[str, Any] = {name: (section, section()) for name, section in flow.sections.items()}
    if flow.takes_data:
        fields["data"] = (CliPositionalArg[str], Field(default="", description="folder or file of your data"))
    for short, (section, name) in SHORT.items():
        fields[short] = (flow.sections[section].model_fields[name].annotation, Field(default=0))
    fields |= {"preset": (str, ""), "refresh": (str, ""), "json": (bool, False)}
    config = SettingsConfigDict(cli_implicit_flags=True, cli_avoid_json=True, cli_hide_none_type=True, extra="forbid")
    base = type("Settings", (BaseSettings,), {"model_config": config})
    with warnings.catch_warnings(action="ignore"):  # pydantic warns of a field called `json`, once a method
        return create_model(flow.name, __base__=base, **fields)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        merged[name] = _merged(merged.get(name, {}), value) if isinstance(value, Mapping) else value
    return merged


def _suggest(message: str, settings_class: type[BaseModel]) -> str:
    unknown = re.search(r"unrecognized arguments: (\S+)", message)
    if unknown is None:
        return f"{message}. See --help."
    if not unknown[1].startswith("--"):
        return f"There is no place for {unknown[1]!r}: settings are given as --name VALUE. See --help."
    options, last = [f"--{name}" for name in names(settings_class)], unknown[1].removeprefix("--").rpartition(".")[2]
    near = [option for option in options if option.rpartition(".")[2] == last] or difflib.get_close_matches(unknown[1], options, n=1)
    return f"There is no setting {unknown[1]}." + (f" Did you mean {' or '.join(near)}?" if near else " See --help.")


def _refused(detail: Any, settings_class: type[BaseModel]) -> str:
    setting = f"--{'.'.join(str(part) for part in detail['loc'])}"
    if detail["type"] == "extra_forbidden":
        return _suggest(f"unrecognized arguments: {setting}", settings_class)
    if detail["type"] == "value_error":  # of our own validators, whose message says what was wrong
        return f"{setting}: {detail['ctx']['error']}"
    return f"{setting}: {detail['msg']} (it was {detail['input']!r})."


def flow_name(function: Any) -> str:
    """The name of a Prefect flow's module, also where it runs as a script."""
    return Path(inspect.getfile(function.fn)).stem
