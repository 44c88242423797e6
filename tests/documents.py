"""The command blocks of the documentation: how they are found, validated, and made small enough to be run in a test."""

from __future__ import annotations

import argparse
import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    *("README.md", "docs/start.md", "docs/guides/image-classification.md", "docs/guides/nlp.md", "docs/guides/recommendation.md"),
    *("docs/guides/driving-perception.md", "docs/compression.md", "docs/serving.md"),
)
"""Pages that are run first, in this order: later ones use what earlier ones released."""
LANGUAGES = ("bash", "console", "python", "diff", "toml")
NEEDS = ("docker", "gpu", "hub", "hours")
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (run|small|needs)(?:: ([\w./-]+))? -->\s*\Z")
UNCHECKED = ("cd", "export", "git", "mkdocs", "pip", "prefect", "source")
EPOCHS = re.compile(r"--(epochs|(?:fit|pretraining|adaptation|compression)\.epochs)")
TIME = ("--minutes", "--fit.max_minutes", "--compression.search_minutes")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, and what its mark says."""

    page: str
    line: int
    language: str
    text: str
    kind: str
    detail: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def changes_project(self) -> bool:
        """Whether it adds or changes a file, so that what follows on the page can only be validated by running it."""
        return self.kind == "run" and (self.language == "diff" or "/" in self.detail)

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, without comments; of a console those after the prompt."""
        text = self.text
        if self.language == "console":
            text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
        joined = text.replace("\\\n", " ")
        return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def pages() -> list[str]:
    """All pages with commands, in the order in which they are run."""
    found = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    names = [str(path.relative_to(ROOT)) for path in found]
    return [*PAGES, *(name for name in names if name not in PAGES)]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page that hold commands or code, marked or not."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = []
    for fence in FENCE.finditer(text):
        mark = MARK.search(text[: fence.start()].rstrip(" "))
        if fence[2] in LANGUAGES and (mark or fence[2] in ("bash", "console", "python")):
            body = re.sub(rf"^{fence[1]}", "", fence[3], flags=re.MULTILINE)
            line = text[: fence.start()].count("\n") + 1
            blocks.append(Block(page, line, fence[2], body, mark[1] if mark else "", (mark[2] or "") if mark else ""))
    return blocks


# -- validation -------------------------------------------------------------------------------------------------------
class Parsed(BaseException):
    """Raised in place of running a command whose arguments were understood."""


@contextmanager
def only_parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, a command ends once argparse has understood its arguments."""
    real = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *given: Any, **named: Any) -> Any:
        parsed = real(self, *given, **named)
        if type(self) is argparse.ArgumentParser:  # not that of pydantic's settings, which are validated after it
            raise Parsed
        return parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        yield


def validate(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a command with the parser that it uses, without running it.

    Args:
        words: of the command.
        monkeypatch: that stops commands after parsing.

    Raises:
        AssertionError: the command or one of its settings does not exist, or a value does not fit.
    """
    words = list(words[: next((place for place, word in enumerate(words) if word in (">", "|")), len(words))])
    program, arguments = words[0], words[1:]
    if program == "verticals":
        _validate_ours(arguments, monkeypatch)
    elif program == "python" and arguments[:1] == ["-m"] and arguments[1].startswith(("benchmarks.", "tasks.", "usecases.")):
        monkeypatch.setattr(sys, "argv", arguments[1:])
        with only_parsed(monkeypatch):
            _parse(lambda: runpy.run_module(arguments[1], run_name="__main__"), words)
    elif program == "python":
        assert arguments[:1] in (["-m"], ["-c"]) or (ROOT / arguments[0]).is_file(), f"there is no {arguments[0]}"
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(arguments) <= set(targets), f"make has no target {set(arguments) - set(targets)}"
    elif program == "curl":
        _validate_address(next(word for word in arguments if word.startswith("localhost")))
    elif program == "docker":
        assert "-f" not in arguments or (ROOT / arguments[arguments.index("-f") + 1]).is_file()
    else:
        assert program in UNCHECKED, f"{program} is neither a command of ours nor one that is known"


def _validate_ours(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.contract.errors import SettingError

    commands = importlib.import_module("flows.command").COMMANDS
    settings = importlib.import_module("flows.command.settings")
    name, rest = arguments[0], list(arguments[1:])
    assert name in commands, f"there is no command verticals {name}"
    if name == "run" and "--help" not in rest:
        try:
            settings.parse(settings.flow_of(rest[0]), rest[1:])
        except SettingError as error:
            raise AssertionError(str(error)) from None
    elif name in ("up", "down", "doctor"):
        assert not rest, f"verticals {name} takes no arguments"
    elif name != "run":
        module = importlib.import_module(f"flows.command.{commands[name].module}")
        monkeypatch.setattr("flows.command.models.find_bundle", Path)  # models need not exist,
        monkeypatch.setattr(
            "flows.command.local.is_up", _stop
        )  # nor a server, which `schedule` asks for after it has validated its settings
        with only_parsed(monkeypatch):
            _parse(lambda: getattr(module, commands[name].function)(rest), arguments)


def _stop() -> NoReturn:
    raise Parsed


def _parse(command: Any, words: Sequence[str]) -> None:
    from tasks.contract.errors import UserError

    try:
        command()
    except Parsed:
        return
    except UserError as error:
        raise AssertionError(f"{shlex.join(words)} is refused: {error}") from None
    except SystemExit as error:
        assert error.code == 0, f"{shlex.join(words)} is refused"
    else:
        raise AssertionError(f"{shlex.join(words)} parsed nothing")


def _validate_address(address: str) -> None:
    """The server has a route for it."""
    from tasks.serving.app import make_app
    from tasks.serving.settings import Serving

    path = "/" + address.partition("?")[0].partition("/")[2]
    routes = [getattr(route, "path_regex", None) for route in make_app(ROOT / "nowhere", Serving()).routes]
    assert any(route and route.match(path) for route in routes), f"the server has no address {path}"


# -- running ----------------------------------------------------------------------------------------------------------
def made_small(words: Sequence[str]) -> list[str]:
    """The same command for one epoch of each training, without a budget of time."""
    if list(words[:2]) != ["verticals", "run"]:
        return list(words)
    small, place = list(words[:3]), 3
    while place < len(words):
        word = words[place]
        if word in TIME:
            place += 2
        elif EPOCHS.fullmatch(word):
            small += [word, "1"]
            place += 2
        else:
            small.append(word)
            place += 1
    if not {"--epochs", "--fit.epochs"} & set(small):
        small += ["--epochs", "1"]
    if "--pretraining.epochs" not in small and words[2] != "driving-perception":
        small += ["--pretraining.epochs", "1"]
    if words[2] == "driving-perception":
        small += ["--adaptation.epochs", "1"]
    return small
