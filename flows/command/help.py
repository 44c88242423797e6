"""Help for `verticals run`: what people set most on one screen, everything else by section."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flows.command.settings import SHORT, STEPS, Flow, presets
from tasks.contract.errors import SettingError
from tasks.reporting.formatting import plain

INDENT = 22
ALL = "all"


def help_text(flow: Flow, command: str, section: str = "") -> str:
    """What `--help`, `--help SECTION` and `--help all` print.

    Args:
        flow: whose settings are shown.
        command: as it was typed, such as `verticals run nlp`.
        section: the parameter of the flow; empty: the common part.

    Returns:
        Lines of at most 100 characters.

    Raises:
        SettingError: there is no such section.
    """
    if section and section != ALL and section not in flow.sections:
        raise SettingError(f"There is no section {section!r} of settings. There are: {', '.join(flow.sections)}, {ALL}.")
    if section:
        shown = flow.sections if section == ALL else {section: flow.sections[section]}
        return "\n\n".join("\n".join(_settings(name, settings)) for name, settings in shown.items())
    return "\n".join(_common(flow, command))


def _common(flow: Flow, command: str) -> Iterator[str]:
    data = " [DATA]" if flow.takes_data else ""
    yield f"usage: {command}{data} [--preset NAME] [--epochs N] [--minutes M] [--SECTION.SETTING VALUE ...]"
    yield ""
    yield from textwrap.wrap(flow.summary.partition("\n")[0], _width())
    yield ""
    if flow.takes_data:
        yield from _entry("DATA", _described(flow.sections["usecase"].model_fields["data"]))
    yield from _entry("--preset NAME", f"start from the settings of a deployment in prefect.yaml: {', '.join(presets(flow)) or 'none'}")
    for short, (section, name) in SHORT.items():
        yield from _entry(f"--{short} N", f"{_described(flow.sections[section].model_fields[name])}; --{section}.{name}")
    yield from _entry(
        "--refresh STEP", f"compute a step again although its result is stored: {ALL}, or names such as {STEPS[-3]}, {STEPS[-2]}"
    )
    yield from _entry("--json", "print the release as JSON, in the last line of standard output")
    yield ""
    yield f"More settings, by section; `{command} --help SECTION` describes them, `--help {ALL}` all:"
    for section, settings in flow.sections.items():
        shared = flow.sections["fit"].model_fields if section != "fit" and issubclass(settings, flow.sections["fit"]) else {}
        names = [name for name in settings.model_fields if name not in shared] + (["and all of --fit"] if shared else [])
        yield from _entry(f"--{section}. ...", ", ".join(names))


def _settings(prefix: str, settings: type[BaseModel]) -> Iterator[str]:
    yield f"{prefix}: {(settings.__doc__ or '').strip().partition(chr(10))[0]}"
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings(f"{prefix}.{name}", field.annotation)
        else:
            yield f"  --{prefix}.{name} {_value(field.annotation)}"
            yield from textwrap.wrap(_described(field), _width(), initial_indent=" " * 6, subsequent_indent=" " * 6)


def _described(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return field.description or ""
    return f"{field.description} (default: {'empty' if default in ('', (), None) else plain(default)})"


def _value(annotation: Any) -> str:
    """The kind of value: `{auto,yes,no}`, `N`, `LIST`."""
    if get_origin(annotation) is Literal:
        return "{" + ",".join(map(str, get_args(annotation))) + "}"
    if get_origin(annotation) is tuple:
        return f"{_value(get_args(annotation)[0])},..."
    kinds: Mapping[Any, str] = {bool: "(--no-... switches it off)", int: "N", float: "X", str: "TEXT"}
    return kinds.get(annotation, "VALUE")


def _entry(left: str, right: str) -> Iterator[str]:
    wrapped = textwrap.wrap(right, _width() - INDENT)
    yield f"  {left:<{INDENT - 2}}{wrapped[0] if wrapped else ''}" if len(left) < INDENT - 2 else f"  {left}"
    yield from (" " * INDENT + line for line in (wrapped[1:] if len(left) < INDENT - 2 else wrapped))


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 120)
