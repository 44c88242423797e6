"""The key of a step: what its result depends on, computed instead of written down."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tasks.contract.artifacts import Artifact
from tasks.contract.records import Record, write_typed
from tasks.machine import cpu
from tasks.store.closure import Closure
from tasks.store.digests import digest_of

DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "pycrfsuite": "python-crfsuite",
    "lightning_fabric": "pytorch-lightning",
}
"""Libraries whose packages have another name than their modules."""
IMPLIED = {"onnx": ("onnxscript",), "transformers": ("tokenizers",)}
"""Libraries that others call without our importing them."""


def key(
    step: Callable[..., Any], inputs: Sequence[Artifact | str] = (), settings: Mapping[str, Any] | None = None, machine: bool = False
) -> str:
    """The digest of all that the result of a step depends on.

    Args:
        step: the function that does the work; a `functools.partial` of it will do. Its source and that of every module which it, or a
            method of a value given to it, can load are part of the key, and so are the versions of the libraries that they import.
        inputs: artifacts, by their digests.
        settings: JSON values, records, and classes of records, whose methods the step calls.
        machine: the result is a measurement, which holds for this kind of machine only.
    """
    closure = closure_of(step, inputs, settings or {})
    return digest_of(
        {
            "step": _name(step),
            "inputs": [each.digest if isinstance(each, Artifact) else each for each in inputs],
            "settings": written(settings or {}),
            "code": {name: module.sha256 for name, module in closure.modules.items()},
            "libraries": versions(closure.libraries),
            **({"machine": cpu()} if machine else {}),
        }
    )


def closure_of(step: Callable[..., Any], inputs: Sequence[Artifact | str], settings: Mapping[str, Any]) -> Closure:
    """The modules and libraries that a step can load, given the classes of the records in its inputs and settings."""
    kinds = list(dict.fromkeys(_kinds([*inputs, *settings.values()])))
    closure = Closure(kind.__module__.partition(".")[0] for kind in kinds)
    closure.add_function(_plain(step))
    for kind in kinds:
        closure.add_class(kind)
    return closure


def written(value: Any) -> Any:
    """A setting as JSON; a record with the name of its class, an artifact as its digest."""
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, Artifact):
        return {"digest": value.digest, "usecase": write_typed(value.usecase)}
    if isinstance(value, Record):
        return {"type": written(type(value)), **{name: written(each) for name, each in value}}
    if isinstance(value, Mapping):
        return {str(name): written(each) for name, each in value.items()}
    return [written(each) for each in value] if isinstance(value, list | tuple) else value


def versions(libraries: set[str]) -> dict[str, str]:
    """The installed version of each library, by its package; those that are not installed are left out."""
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
    """The function below partial applications and decorators."""
    inner = step.func if isinstance(step, functools.partial) else getattr(step, "__wrapped__", None)
    return step if inner is None else _plain(inner)


def _name(step: Callable[..., Any]) -> str:
    plain = _plain(step)
    return f"{plain.__module__}:{plain.__qualname__}"
