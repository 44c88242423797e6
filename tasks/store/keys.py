"""The key of a step: a digest of everything that its result depends on, which is found automatically."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_core import to_jsonable_python

from tasks import STARTED_NS
from tasks.contract.artifacts import Artifact, home
from tasks.contract.records import Record
from tasks.contract.usecase import UseCase
from tasks.machine import cpu
from tasks.store.closure import Closure
from tasks.store.digests import digest_of, write_whole
from tasks.store.libraries import distributions_of, installed_version, version_without_distribution
from tasks.store.source import data_of, file_beside, modules_of, path_of, sha256_of, sha256_of_file

LOCATION = "data"
"""The setting of a use case that names the place of its data, read by `prepare` alone."""
IMPLIED = {"onnx": ("onnxscript",), "transformers": ("tokenizers",)}
"""Further libraries that a library calls, which the project does not import itself."""


def key(
    step: Callable[..., Any], inputs: Sequence[Artifact | str] = (), settings: Mapping[str, Any] | None = None, machine: bool = False
) -> str:
    """The digest of everything that the result of a step depends on.

    Args:
        step: the function that does the work, or a `functools.partial` of it. The source of every module that it can load is part of the key
            (see `tasks.store.closure`), and so are the versions of the libraries that these modules import.
        inputs: artifacts, or digests of artifacts.
        settings: JSON values, records, and classes of records whose methods the step calls.
        machine: whether the result is a measurement, which is valid only for this kind of machine.

    Returns:
        sha256, hex.
    """
    return key_of(code_of(step, inputs, settings or {}), step, inputs, settings, machine)


def key_of(
    code: Code,
    step: Callable[..., Any],
    inputs: Sequence[Artifact | str] = (),
    settings: Mapping[str, Any] | None = None,
    machine: bool = False,
) -> str:
    """The key of a step whose code is known.

    Args:
        code: of the step (see `code_of`).
        step: the function.
        inputs, settings, machine: as `key` takes them.

    Returns:
        The key, hex.
    """
    return digest_of(
        {
            "step": _name(step),
            "inputs": [each.digest if isinstance(each, Artifact) else each for each in inputs],
            "settings": written(settings or {}),
            "code": code.modules | code.files,
            "libraries": versions(code.libraries),
            **({"machine": cpu()} if machine else {}),
        }
    )


class Code(Record):
    """The code that a step can load: modules of the project with the sha256 of their source, and names of libraries."""

    modules: dict[str, str]
    libraries: tuple[str, ...]
    files: dict[str, str] = Field(default_factory=dict)
    """The sha256 of data files: those that the modules name (`MODULE:FILE`), and all in packages of somebody else."""
    absent: tuple[str, ...] = ()
    """Modules that are imported but do not exist; the code is searched again when one of them appears."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Packages of somebody else, with a digest of the names of their modules and of their data files."""


def code_of(step: Callable[..., Any], inputs: Sequence[Artifact | str], settings: Mapping[str, Any]) -> Code:
    """The modules and libraries that a step can load.

    The result is cached in the store, and is valid as long as the source of each of these modules is the same.

    Args:
        step: the function that does the work.
        inputs: artifacts, or digests of artifacts.
        settings: JSON values, records and classes of records; the methods of their classes count, too.

    Returns:
        The code.

    Raises:
        ContractError: the source of the step cannot be found.
    """
    kinds = list(dict.fromkeys(_kinds([*inputs, *settings.values()])))
    plain = _plain(step)
    remembered = home() / "code" / f"{digest_of([_name(plain), _line(plain), *map(written, kinds)])}.json"
    known = _remembered(remembered)
    if known is not None:
        return known
    closure = Closure(kind.__module__.partition(".")[0] for kind in kinds)
    closure.add_function(plain)
    for kind in kinds:
        closure.add_class(kind)
    found = Code(
        modules={name: module.sha256 for name, module in sorted(closure.modules.items())},
        libraries=tuple(sorted(closure.libraries)),
        files={name: _sha256_beside(name) for name in sorted(closure.files)}
        | {name: sha256 for package in sorted(closure.others) for name, sha256 in data_of(package).items()},
        absent=tuple(sorted(closure.absent)),
        packages={package: _listing(package) for package in sorted(closure.others)},
    )
    with suppress(OSError):  # a store that cannot be written may still be read
        write_whole(remembered, found.model_dump_json())
    return found


def edited(code: Code) -> list[str]:
    """The modules whose source was written after this process began, which may have loaded what was there before.

    The time of the last change of a file's status is compared, because tools that copy files set back the time of modification.
    """
    paths = ((name, path_of(name)) for name in code.modules)
    return [name for name, path in paths if path is not None and path.stat().st_ctime_ns > STARTED_NS]


def _remembered(path: Path) -> Code | None:
    try:
        known = Code.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    named = {name: sha256 for name, sha256 in known.files.items() if ":" in name}
    holds = (
        known.modules
        and all(sha256_of(name) == sha256 for name, sha256 in known.modules.items())
        and all(_sha256_beside(name) == sha256 for name, sha256 in named.items())
        and not any(map(sha256_of, known.absent))
        and all(_listing(package) == digest for package, digest in known.packages.items())
    )
    return known if holds else None


def _listing(package: str) -> str:
    return digest_of([modules_of(package), data_of(package)])


def _sha256_beside(name: str) -> str:
    """The sha256 of a data file that a module names, `MODULE:FILE`."""
    path = file_beside(*name.split(":", 1))
    return sha256_of_file(path) if path else ""


def written(value: Any) -> Any:
    """A setting as JSON: a record with the name of its class, an artifact as its digest."""
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, Artifact):
        return {"digest": value.digest, "usecase": _without_location(value.usecase)}
    if isinstance(value, UseCase):
        return _without_location(value)
    if isinstance(value, Record):
        return {"type": written(type(value)), **{name: written(each) for name, each in value}}
    if isinstance(value, Mapping):
        return {str(name): written(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [written(each) for each in value]
    if isinstance(value, set | frozenset):  # in one order
        return sorted((written(each) for each in value), key=digest_of)
    return to_jsonable_python(value)  # dates, paths, members of an Enum


def _without_location(usecase: UseCase) -> dict[str, Any]:
    """The settings of a use case, without the place of the data: once they are prepared, the digest of the data set counts."""
    dropped = {LOCATION} & usecase.prepare_settings()
    return {"type": written(type(usecase)), **{name: written(each) for name, each in usecase if name not in dropped}}


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """The installed version of each library by distribution; without one, the sha256 of its first file or `not installed`."""
    found: dict[str, str] = {}
    for library in libraries:
        names = [*distributions_of(library), *IMPLIED.get(library, ())]
        found |= {name: version for name in names if (version := installed_version(name))}
        if not distributions_of(library):
            found[library] = version_without_distribution(library)
    return {**dict(sorted(found.items())), "python": platform.python_version()}


def _kinds(values: Iterable[Any]) -> Iterator[type[Record]]:
    """The classes of all records in the values, and the classes that are values themselves."""
    for value in values:
        if isinstance(value, type):
            yield value
        elif isinstance(value, Record):
            yield type(value)
            yield from _kinds(each for _, each in value)
        elif isinstance(value, Mapping):
            yield from _kinds(value.values())
        elif isinstance(value, list | tuple):
            yield from _kinds(value)


def _plain(step: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside partial applications and decorators."""
    inner = step.func if isinstance(step, functools.partial) else getattr(step, "__wrapped__", None)
    return step if inner is None else _plain(inner)


def _line(step: Callable[..., Any]) -> int:
    code = getattr(step, "__code__", None)
    return code.co_firstlineno if code else 0


def _name(step: Callable[..., Any]) -> str:
    plain = _plain(step)
    return f"{plain.__module__}:{plain.__qualname__}"
