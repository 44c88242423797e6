"""The parsed source of a module: its imports and definitions. Nothing is imported or executed."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Node = Function | ast.ClassDef


@dataclass(frozen=True)
class Source:
    """A module of a project, parsed."""

    name: str
    path: Path
    sha256: str
    body: list[ast.stmt]
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Names that the top level imports: for each the module that it comes from, and its name there ('' for a module itself)."""
    defined: dict[str, Node] = field(default_factory=dict)
    """Functions and classes of the top level, by name."""


@functools.cache
def folder_of(package: str) -> Path | None:
    """The folder of a top-level package; None if it is not on disk."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def path_of(module: str) -> Path | None:
    """The file of a module, found without importing its parents; None if there is no such file."""
    package, _, rest = module.partition(".")
    folder = folder_of(package)
    return _path_below(folder, rest) if folder else None


@functools.cache
def _path_below(folder: Path, name: str) -> Path | None:
    found = folder.joinpath(*name.split(".")) if name else folder
    return next((path for path in (found / "__init__.py", found.with_name(f"{found.name}.py")) if path.is_file()), None)


def read(module: str) -> Source | None:
    """The parsed source of a module; it is parsed again if the file has changed. None if there is no such module."""
    path = path_of(module)
    return None if path is None else read_file(module, path)


@functools.cache
def _sha256(path: Path, modified: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sha256_of(module: str) -> str:
    """sha256 of the present source of a module, without parsing it; empty if there is no such module."""
    path = path_of(module)
    if path is None:
        return ""
    status = path.stat()
    return _sha256(path, status.st_mtime_ns, status.st_size)


def read_file(module: str, path: Path) -> Source:
    """The parsed source of a module in a given file, such as a script."""
    status = path.stat()
    return _parsed(module, path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _parsed(module: str, path: Path, modified: int, size: int) -> Source:
    text = path.read_bytes()
    source = Source(module, path, hashlib.sha256(text).hexdigest(), ast.parse(text).body)
    for statement in top_level(source.body, as_main=True):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            source.names.update(bindings(statement, source))
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            source.defined[statement.name] = statement
    return source


def top_level(body: list[ast.stmt], as_main: bool = False) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, or with `as_main` when it is run as a script; those for type checkers never run."""
    for statement in body:
        if not isinstance(statement, ast.If | ast.Try | ast.With):
            yield statement
            continue
        guard = ast.dump(statement.test) if isinstance(statement, ast.If) else ""
        runs = "TYPE_CHECKING" not in guard and ("__main__" not in guard or as_main)
        parts = [statement.body if runs else [], getattr(statement, "orelse", []), getattr(statement, "finalbody", [])]
        parts += [handler.body for handler in getattr(statement, "handlers", [])]
        yield from (inner for part in parts for inner in top_level(part, as_main))


def bindings(statement: ast.Import | ast.ImportFrom, source: Source) -> dict[str, tuple[str, str]]:
    """The names that an import binds: for each the module, and the name in it, or '' for the module itself."""
    if isinstance(statement, ast.Import):
        return {alias.asname or alias.name.partition(".")[0]: (alias.name, "") for alias in statement.names}
    base = statement.module or ""
    if statement.level:
        parts = source.name.split(".")
        kept = parts[: len(parts) - statement.level + (source.path.name == "__init__.py")]
        base = ".".join([*kept, *([base] if base else [])])
    return {alias.asname or alias.name: (base, alias.name) for alias in statement.names}
