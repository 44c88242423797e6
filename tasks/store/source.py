"""The parsed source of a module: its imports and definitions. Nothing is imported or executed."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.store.digests import file_digest

MAIN = "__main__"
SUFFIXES = tuple(importlib.machinery.SOURCE_SUFFIXES)
NOT_SOURCE = ("__pycache__", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints")
MAX_HASHED_BYTES = 64_000_000  # larger data files are recognised by size and time of modification
DATA_FILE = re.compile(r"(?![/.])[\w ./-]{1,200}\.\w{1,12}")
"""A string that may name a data file next to a module."""
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
    """The functions and classes of the top level, by name."""
    bound: set[str] = field(default_factory=set)
    """All names that the top level assigns, imports or defines."""
    stars: list[str] = field(default_factory=list)
    """The modules whose names it imports by `from ... import *`."""

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


@functools.cache
def locations(package: str) -> tuple[Path, ...]:
    """The folders of a top-level package, or the file of a top-level module; empty if neither is on disk."""
    if package == MAIN:
        file = getattr(sys.modules[MAIN], "__file__", None)
        return (Path(file).resolve(),) if file else ()
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:
        return tuple(map(Path, spec.submodule_search_locations))
    return (Path(spec.origin),) if spec.origin and spec.has_location else ()


def path_of(module: str) -> Path | None:
    """The file of a module's source, found without importing its parents; None where there is none."""
    package, _, rest = module.partition(".")
    return next((path for place in locations(package) if (path := _path_at(place, rest)) is not None), None)


def _path_at(place: Path, name: str) -> Path | None:
    if place.suffix in SUFFIXES:
        return place if not name and place.is_file() else None
    found = place.joinpath(*name.split(".")) if name else place
    return next((path for path in (found / "__init__.py", found.with_name(f"{found.name}.py")) if path.is_file()), None)


def modules_of(package: str) -> list[str]:
    """The names of all modules on disk of a top-level package."""
    found: list[str] = []
    for place in locations(package):
        if place.suffix in SUFFIXES:
            return [package]
        for path in sorted(_files_below(place)):
            if path.suffix in SUFFIXES:
                parts = path.relative_to(place).with_suffix("").parts
                found.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return found


def data_of(package: str) -> dict[str, str]:
    """The sha256 of the data files of a top-level package, by path."""
    folders = [place for place in locations(package) if place.suffix not in SUFFIXES]
    return {
        f"{package}/{path.relative_to(folder).as_posix()}": sha256_of_file(path)
        for folder in folders
        for path in _files_below(folder)
        if path.suffix not in SUFFIXES
    }


def file_beside(module: str, name: str) -> Path | None:
    """The file of this name in the folder of a module; None if there is none."""
    path = path_of(module)
    found = path.parent / name if path and DATA_FILE.fullmatch(name) else None
    return found if found and found.is_file() else None


def _files_below(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if not set(path.relative_to(folder).parts) & set(NOT_SOURCE))
    return [path for path in found if path.is_file()]


def read(module: str) -> Source | None:
    """The parsed source of a module; it is parsed again if the file has changed. None if there is no such module."""
    path = path_of(module)
    return None if path is None else read_file(module, path)


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, modified: int, size: int) -> str:
    return file_digest(path) if size <= MAX_HASHED_BYTES else f"{size} bytes of {modified}"


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file on disk; for a large one its size and time of modification; empty if there is none."""
    try:
        status = path.stat()
        return _sha256(path, status.st_mtime_ns, status.st_size)
    except OSError:
        return ""


def sha256_of(module: str) -> str:
    """sha256 of the present source of a module, without parsing it; empty if there is no such module."""
    path = path_of(module)
    return "" if path is None else sha256_of_file(path)


def read_file(module: str, path: Path) -> Source:
    """The parsed source of a module in a given file, such as a script."""
    status = path.stat()
    return _parsed(module, path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _parsed(module: str, path: Path, modified: int, size: int) -> Source:
    text = path.read_bytes()
    source = Source(module, path, hashlib.sha256(text).hexdigest(), _body(text))
    for statement in top_level(source.body, as_main=True):
        source.bound.update(part.id for part in ast.walk(statement) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found = bindings(statement, source)
            source.stars.extend(base for base, name in found.values() if name == "*")
            source.names.update({name: target for name, target in found.items() if name != "*"})
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            source.defined[statement.name] = statement
    source.bound.update(source.names, source.defined)
    return source


def _body(text: bytes) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError):  # nothing can import it either
        return []


def top_level(body: list[ast.stmt], as_main: bool = False) -> Iterator[ast.AST]:
    """The statements that run when a module is imported, or with `as_main` run by itself; those for type checkers never do."""
    for statement in body:
        if not isinstance(statement, ast.If | ast.Try | ast.With):
            yield statement
            continue
        guard = ast.dump(statement.test) if isinstance(statement, ast.If) else ""
        yield from [statement.test] if isinstance(statement, ast.If) else []
        yield from (item.context_expr for item in statement.items) if isinstance(statement, ast.With) else ()
        runs = "TYPE_CHECKING" not in guard and ("__main__" not in guard or as_main)
        parts = [statement.body if runs else [], getattr(statement, "orelse", []), getattr(statement, "finalbody", [])]
        parts += [handler.body for handler in getattr(statement, "handlers", [])]
        yield from (inner for part in parts for inner in top_level(part, as_main))


def bindings(statement: ast.Import | ast.ImportFrom, source: Source) -> dict[str, tuple[str, str]]:
    """The names that an import binds: for each the module, and the name in it, or '' for the module itself."""
    if isinstance(statement, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: (alias.name if alias.asname else alias.name.partition(".")[0], "")
            for alias in statement.names
        }
    base = statement.module or ""
    if statement.level:
        parts = source.name.split(".")
        kept = parts[: len(parts) - statement.level + source.is_package]
        base = ".".join([*kept, *([base] if base else [])])
    return {alias.asname or alias.name: (base, alias.name) for alias in statement.names}
