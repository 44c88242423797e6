"""The modules that the result of a step depends on, found by static analysis of the source.

Reachable code is followed from the function of the step (rapid type analysis, Bacon and Sweeney 1996):

- A reachable module counts, together with all modules that its top level imports.
- An import inside a function counts if the function is reachable.
- A function is reachable if reachable code names it.
- A method is reachable if reachable code uses an attribute of its name, and if its class is named in reachable code or is the class of an
  argument of the step.

So after a change of a network its training is repeated, but not the preparation of the data.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.store.source import Function, Node, Source, bindings, path_of, read, read_file, top_level

OURS = frozenset({"flows", "tasks", "usecases", "tests", "benchmarks"})
PLAIN_BASES = {"ABC", "object", "BaseModel", "Protocol", "Exception", "ValueError", "TypeError", "RuntimeError", "NamedTuple", "Generic"}
"""Classes outside the project that do not call arbitrary methods of their subclasses."""
NOT_MADE = {"isinstance": 1, "issubclass": 1, "cast": 0}
"""Functions with an argument that names a class without making an instance, and the position of that argument."""

Names = dict[str, tuple[str, str]]
"""Imported names: for each the module that it is imported from, and its name there ('' for the module itself)."""


class Closure:
    """The modules and libraries that a step can load, followed from its function and the classes of its arguments.

    Args:
        packages: top-level packages that count as part of the project, besides its own.
    """

    def __init__(self, packages: Iterable[str] = ()) -> None:
        self.packages = OURS | set(packages)
        self.modules: dict[str, Source] = {}
        """Modules of the project by name."""
        self.libraries: set[str] = set()
        """Top-level packages that the modules import from outside the project and the standard library."""
        self._loaded: set[str] = set()
        self._followed: set[int] = set()
        self._attributes: set[str] = set()
        self._waiting: defaultdict[str, list[tuple[Source, Function]]] = defaultdict(list)

    def add_function(self, function: Callable[..., Any]) -> None:
        """Follow the function of a step, which may be nested or a lambda. Of its module, only this function and its imports count."""
        file = inspect.getsourcefile(function)
        module = read(function.__module__) or (read_file(function.__module__, Path(file)) if file else None)
        if module is None:
            return
        self.modules[module.name] = module
        around = _scopes(module, function)
        if not around:
            self._load(module.name, as_main=True)
            return
        outer: Names = {}
        for scope in around[:-1]:
            outer |= _imports_in(scope, module)
        self._follow([around[-1]], module, outer)

    def add_class(self, kind: type) -> None:
        """Follow the class of an argument of the step."""
        module = self._load(kind.__module__)
        node = module.defined.get(kind.__qualname__) if module else None
        if module and isinstance(node, ast.ClassDef):
            self._class(module, node)

    # -- modules ------------------------------------------------------------------------------------------------------
    def _load(self, name: str, as_main: bool = False) -> Source | None:
        """Load a module and its parents as an import does, with all that their top levels import; None if it is not part of the project."""
        package = name.partition(".")[0]
        if package not in self.packages:
            if package not in sys.stdlib_module_names:
                self.libraries.add(package)
            return None
        parts = name.split(".")
        for end in range(1, len(parts)):
            self._load_one(".".join(parts[:end]), as_main=False)
        return self._load_one(name, as_main)

    def _load_one(self, name: str, as_main: bool) -> Source | None:
        module = read(name)
        if module is None or (name in self._loaded and not as_main):
            return module
        self.modules[name] = module
        self._loaded.add(name)
        for statement in top_level(module.body, as_main):
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                defaults = filter(None, [*statement.args.defaults, *statement.args.kw_defaults])
                self._follow([*statement.decorator_list, *defaults], module, {})
            elif isinstance(statement, ast.ClassDef):
                inside = [part for part in statement.body if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
                self._follow([*statement.decorator_list, *inside], module, {})
            else:
                self._follow([statement], module, {})
        return module

    # -- code ---------------------------------------------------------------------------------------------------------
    def _follow(self, nodes: Iterable[ast.AST], module: Source, outer: Names) -> None:
        """Follow reachable code: its imports, names and attributes."""
        for node in nodes:
            if id(node) in self._followed:
                continue
            self._followed.add(id(node))
            local = outer | _imports_in(node, module)
            for part in _parts(node):
                if isinstance(part, ast.Import | ast.ImportFrom):
                    self._import(part, module)
                elif isinstance(part, ast.Name):
                    self._named(self._resolved(part.id, module, local))
                elif isinstance(part, ast.Attribute):
                    self._attribute(part, module, local)
                elif isinstance(part, ast.Constant) and isinstance(part.value, str) and self._is_module(part.value):
                    self._load(part.value, as_main=True)  # run as a separate process

    def _import(self, statement: ast.Import | ast.ImportFrom, module: Source) -> None:
        for base, name in bindings(statement, module).values():
            inner = f"{base}.{name}"
            self._load(inner if name and self._is_module(inner) else base)

    def _is_module(self, name: str) -> bool:
        package, dot, rest = name.partition(".")
        return bool(dot) and package in self.packages and rest.replace(".", "_").isidentifier() and path_of(name) is not None

    def _resolved(self, name: str, module: Source, local: Names) -> tuple[Source, Node] | str | None:
        """The meaning of a name: a function or class of the project, the name of a module, or None for anything else."""
        if name in local:
            return self._member(*local[name])
        if name in module.defined:
            return module, module.defined[name]
        return self._member(*module.names[name]) if name in module.names else None

    def _member(self, base: str, name: str) -> tuple[Source, Node] | str | None:
        if not name:
            return base
        if base.partition(".")[0] not in self.packages or self._is_module(f"{base}.{name}"):
            return f"{base}.{name}"
        module = read(base)
        return self._resolved(name, module, {}) if module else None

    def _named(self, found: tuple[Source, Node] | str | None) -> None:
        if isinstance(found, tuple):
            module, node = found
            if isinstance(node, ast.ClassDef):
                self._class(module, node)
            else:
                self._load(module.name)
                self._follow([node], module, {})

    def _attribute(self, part: ast.Attribute, module: Source, local: Names) -> None:
        """Follow an attribute: of a module of the project its function or class; of any other value all methods of that name."""
        found = self._resolved(part.value.id, module, local) if isinstance(part.value, ast.Name) else None
        if isinstance(found, str):
            if found.partition(".")[0] in self.packages:
                self._named(self._member(found, part.attr))
            return
        if part.attr not in self._attributes:
            self._attributes.add(part.attr)
            for owner, method in self._waiting.pop(part.attr, ()):
                self._follow([method], owner, {})

    # -- classes ------------------------------------------------------------------------------------------------------
    def _class(self, module: Source, node: ast.ClassDef) -> None:
        if id(node) in self._followed:
            return
        self._followed.add(id(node))
        self._load(module.name)
        called_outside = self._is_called_outside(module, node)
        for base in self._bases(module, node):
            self._class(*base)
        for method in node.body:
            if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if called_outside or method.name.startswith("__") or _is_hook(method) or method.name in self._attributes:
                self._follow([method], module, {})
            else:
                self._waiting[method.name].append((module, method))

    def _bases(self, module: Source, node: ast.ClassDef) -> Iterator[tuple[Source, ast.ClassDef]]:
        for base in node.bases:
            found = self._resolved(base.id, module, {}) if isinstance(base, ast.Name) else None
            if isinstance(found, tuple) and isinstance(found[1], ast.ClassDef):
                yield found[0], found[1]

    def _is_called_outside(self, module: Source, node: ast.ClassDef) -> bool:
        """Whether a library may call any method, as torch calls `forward`."""
        ours = list(self._bases(module, node))
        plain = [base for base in node.bases if ast.unparse(base).partition("[")[0].rpartition(".")[2] in PLAIN_BASES]
        return len(ours) + len(plain) < len(node.bases) or any(self._is_called_outside(*base) for base in ours)


def _is_hook(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether pydantic calls the method: a validator or serializer."""
    return any("validator" in (text := ast.unparse(one)) or "serializer" in text for one in method.decorator_list)


@functools.lru_cache(maxsize=100_000)
def _parts(node: ast.AST) -> tuple[ast.AST, ...]:
    """The imports, names, attributes and strings in a node, without annotations and arguments that only name a class."""
    found: list[ast.AST] = []
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Import | ast.ImportFrom | ast.Name | ast.Attribute | ast.Constant):
            found.append(part)
        for name, value in ast.iter_fields(part):
            if name in ("annotation", "returns", "ctx") or (isinstance(part, ast.ExceptHandler) and name == "type"):
                continue
            children = value if isinstance(value, list) else [value]
            if isinstance(part, ast.Call) and name == "args" and isinstance(part.func, ast.Name) and part.func.id in NOT_MADE:
                children = [child for place, child in enumerate(children) if place != NOT_MADE[part.func.id]]
            waiting += [child for child in children if isinstance(child, ast.AST)]
    return tuple(found)


def _imports_in(node: ast.AST, module: Source) -> Names:
    """The names that the imports inside a function bind."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {}
    found: Names = {}
    for part in _parts(node):
        if isinstance(part, ast.Import | ast.ImportFrom):
            found |= bindings(part, module)
    return found


def _scopes(module: Source, function: Callable[..., Any]) -> list[Node]:
    """The functions around a function, outermost first, and the function itself last; empty if it is not found in the source."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return []

    def find(node: ast.AST, around: list[Node]) -> list[Node]:
        for child in ast.iter_child_nodes(node):
            inside = around
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                inside = [*around, child]
                decorators = getattr(child, "decorator_list", [])
                line = min([child.lineno, *(one.lineno for one in decorators)])
                if line == code.co_firstlineno and getattr(child, "name", "<lambda>") == code.co_name:
                    return inside
            if found := find(child, inside):
                return found
        return []

    return find(ast.Module(module.body, []), [])
