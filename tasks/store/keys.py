"""The key of a step: a digest of everything that its result depends on, which is found automatically."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.contract.artifacts import Artifact, home
from tasks.contract.records import Record, write_typed
from tasks.machine import cpu
from tasks.store.closure import Closure
from tasks.store.digests import digest_of, write_whole
from tasks.store.source import sha256_of

DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "pycrfsuite": "python-crfsuite",
    "lightning_fabric": "pytorch-lightning",
}
"""Names of the installed packages of libraries, if they differ from those of their modules."""
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
    code = code_of(step, inputs, settings or {})
    return digest_of(
        {
            "step": _name(step),
            "inputs": [each.digest if isinstance(each, Artifact) else each for each in inputs],
            "settings": written(settings or {}),
            "code": code.modules,
            "libraries": versions(code.libraries),
            **({"machine": cpu()} if machine else {}),
        }
    )


class Code(Record):
    """The code that a step can load: modules of the project with the sha256 of their source, and names of libraries."""

    modules: dict[str, str]
    libraries: tuple[str, ...]


def code_of(step: Callable[..., Any], inputs: Sequence[Artifact | str], settings: Mapping[str, Any]) -> Code:
    """The modules and libraries that a step can load.

    The result is cached in the store, and is valid as long as the source of each of these modules is the same.

    Args:
        step: the function that does the work.
        inputs: artifacts, or digests of artifacts.
        settings: JSON values, records and classes of records; the methods of their classes count, too.

    Returns:
        The code.
    """
    kinds = list(dict.fromkeys(_kinds([*inputs, *settings.values()])))
    plain = _plain(step)
    remembered = home() / "code" / f"{digest_of([_name(plain), plain.__code__.co_firstlineno, *map(written, kinds)])}.json"
    known = _remembered(remembered)
    if known is not None:
        return known
    closure = Closure(kind.__module__.partition(".")[0] for kind in kinds)
    closure.add_function(plain)
    for kind in kinds:
        closure.add_class(kind)
    modules = {name: module.sha256 for name, module in sorted(closure.modules.items())}
    found = Code(modules=modules, libraries=tuple(sorted(closure.libraries)))
    write_whole(remembered, found.model_dump_json())
    return found


def _remembered(path: Path) -> Code | None:
    try:
        known = Code.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if all(sha256_of(name) == sha256 for name, sha256 in known.modules.items()) else None


def written(value: Any) -> Any:
    """A setting as JSON: a record with the name of its class, an artifact as its digest."""
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, Artifact):
        return {"digest": value.digest, "usecase": write_typed(value.usecase)}
    if isinstance(value, Record):
        return {"type": written(type(value)), **{name: written(each) for name, each in value}}
    if isinstance(value, Mapping):
        return {str(name): written(each) for name, each in value.items()}
    return [written(each) for each in value] if isinstance(value, list | tuple) else value


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """The installed version of each library, by the name of its package; libraries that are not installed are left out."""
    libraries = set(libraries)
    named = {DISTRIBUTIONS.get(name, name) for name in libraries} | {other for name in libraries for other in IMPLIED.get(name, ())}
    found = {name: version for name in sorted(named) if (version := _version(name))}
    return {**found, "python": platform.python_version()}


@functools.cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


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


def _name(step: Callable[..., Any]) -> str:
    plain = _plain(step)
    return f"{plain.__module__}:{plain.__qualname__}"
