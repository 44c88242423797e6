"""The modules that the result of a step depends on, found by static analysis of the source.

Reachable code is followed from the function of the step (rapid type analysis, Bacon and Sweeney 1996):

- A reachable module counts, together with all modules that its top level imports.
- An import inside a function counts if the function is reachable.
- A function is reachable if reachable code names it, or if it has a decorator that may register it.
- A method is reachable if reachable code uses an attribute of its name, and if its class is named in reachable code or is the class of an
  argument of the step.
- Code that cannot be followed counts as a whole: a module that is used as a value or imported by `*`, and in a package of somebody else all
  modules if the name of an import or of an attribute is computed. Data files of such a package always count.

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

from tasks.contract.errors import ContractError
from tasks.store.libraries import is_source
from tasks.store.source import MAIN, Function, Node, Source, bindings, file_beside, modules_of, path_of, read, read_file, top_level

OURS = frozenset({"flows", "tasks", "usecases", "tests", "benchmarks"})
PLAIN_BASES = {"ABC", "object", "BaseModel", "Protocol", "Exception", "ValueError", "TypeError", "RuntimeError", "NamedTuple", "Generic"}
"""Classes outside the project that do not call arbitrary methods of their subclasses."""
NOT_MADE = {"isinstance": 1, "issubclass": 1, "cast": 0}
"""Functions with an argument that names a class without making an instance, and the position of that argument."""

PLAIN_DECORATORS = {
    *("cache", "lru_cache", "cached_property", "wraps", "singledispatch", "total_ordering", "contextmanager", "asynccontextmanager"),
    *("dataclass", "overload", "final", "runtime_checkable", "no_grad", "inference_mode", "task", "training_task", "flow"),
}
"""Decorators that do not register the function or class elsewhere."""
HOOKS = {"model_post_init"}
"""Methods that pydantic calls, in addition to those with one of its decorators."""
DYNAMIC_CALLS = {"import_module", "__import__", "eval", "exec", "globals", "run_module", "run_path", "spec_from_file_location"}
DYNAMIC_ATTRIBUTES = {"__subclasses__", "iter_modules", "walk_packages"}
READS_CLASSES = {"tasks.contract.records", "tasks.contract.plugins"}
"""Modules that import the class that a record or an entry point names; the classes of the arguments of a step are followed anyway."""

Found = tuple[Source, Node] | str | None
"""A function or class of the project, the name of a module or of a part of a library, or None for anything else."""
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
        self.files: set[str] = set()
        """Data files that a module names, as `MODULE:FILE`."""
        self.others: set[str] = set()
        """Top-level packages of somebody else that are followed like the project."""
        self.absent: set[str] = set()
        """Modules that are imported but do not exist."""
        self._are_modules: dict[str, bool] = {}
        self._loaded: set[str] = set()
        self._whole: set[str] = set()
        self._followed: set[int] = set()
        self._attributes: set[str] = set()
        self._waiting: defaultdict[str, list[tuple[Source, Function]]] = defaultdict(list)

    def add_function(self, function: Callable[..., Any]) -> None:
        """Follow the function of a step, which may be nested or a lambda. Of its module, only this function and its imports count.

        Raises:
            ContractError: the function has no source file.
        """
        try:
            file = inspect.getsourcefile(function)
        except TypeError:
            file = None
        module = read(function.__module__) or (read_file(function.__module__, Path(file)) if file and Path(file).is_file() else None)
        if module is None:
            raise ContractError(
                f"The source of the step {function.__module__}:{getattr(function, '__qualname__', function)} is not in a file, so that a "
                "change of it would not be noticed. Write the function in a module or a script."
            )
        self.modules[module.name] = module
        self._note_package(module.name.partition(".")[0])
        around = _scopes(module, function)
        if not around:
            self._load(module.name, as_main=True)
            return
        outer: Names = {}
        for scope in around[:-1]:
            outer |= _imports_in(scope, module)
        self._follow([around[-1]], module, outer)

    def add_class(self, kind: type) -> None:
        """Follow the class of an argument of the step; its whole module if the class is not defined at the top level."""
        module = self._load(kind.__module__)
        node = module.defined.get(kind.__qualname__) if module else None
        if module and isinstance(node, ast.ClassDef):
            self._class(module, node)
        elif module:
            self._take_whole(module.name)

    # -- modules ------------------------------------------------------------------------------------------------------
    def _is_source(self, package: str) -> bool:
        return package in self.packages or is_source(package)

    def _note_package(self, package: str) -> None:
        if package not in OURS and package != MAIN:
            self.others.add(package)

    def _load(self, name: str, as_main: bool = False) -> Source | None:
        """Load a module and its parents as an import does, with all that their top levels import; None if it is not part of the project."""
        package = name.partition(".")[0]
        if not self._is_source(package):
            if package and package not in sys.stdlib_module_names:
                self.libraries.add(package)
            return None
        self._note_package(package)
        parts = name.split(".")
        for end in range(1, len(parts)):
            self._load_one(".".join(parts[:end]), as_main=False)
        return self._load_one(name, as_main)

    def _load_one(self, name: str, as_main: bool) -> Source | None:
        module = read(name)
        if module is None:
            self.absent.add(name)
        if module is None or (name in self._loaded and not as_main):
            return module
        self.modules[name] = module
        self._loaded.add(name)
        for statement in top_level(module.body, as_main):
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                defaults = filter(None, [*statement.args.defaults, *statement.args.kw_defaults])
                self._follow([*statement.decorator_list, *defaults], module, {})
                if _is_registered(statement):
                    self._follow([statement], module, {})
            elif isinstance(statement, ast.ClassDef):
                computed = [base for base in statement.bases if not isinstance(base, ast.Name | ast.Attribute | ast.Subscript)]
                inside = [part for part in statement.body if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
                self._follow([*statement.decorator_list, *computed, *(word.value for word in statement.keywords), *inside], module, {})
                if _is_registered(statement) or self._registers_subclasses(module, statement):
                    self._class(module, statement)
            else:
                self._follow([statement], module, {})
        return module

    def _take_whole(self, name: str) -> None:
        """Follow a module with all of its functions, classes and methods."""
        module = self._load(name)
        if module is None or name in self._whole:
            return
        self._whole.add(name)
        for node in module.defined.values():
            if isinstance(node, ast.ClassDef):
                self._class(module, node)
                self._follow([part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)], module, {})
            else:
                self._follow([node], module, {})
        for base in module.stars:
            self._take_whole(base)

    def _take_around(self, module: Source) -> None:
        """Follow all modules that a computed name may refer to: the whole package, or the same part of this project."""
        parts = module.name.split(".")
        part = ".".join(parts[:2]) if parts[0] in OURS else parts[0]
        if part in self._whole and len(parts) > 1:
            return
        for name in modules_of(parts[0]) or [module.name]:
            if name == part or name.startswith(f"{part}."):
                self._take_whole(name)

    # -- code ---------------------------------------------------------------------------------------------------------
    def _follow(self, nodes: Iterable[ast.AST], module: Source, outer: Names) -> None:
        """Follow reachable code: its imports, names and attributes."""
        for node in nodes:
            if id(node) in self._followed:
                continue
            self._followed.add(id(node))
            local = outer | _imports_in(node, module)
            parts = _parts(node)
            bases = {id(part.value) for part in parts if isinstance(part, ast.Attribute)}
            for part in parts:
                if isinstance(part, ast.Import | ast.ImportFrom):
                    self._import(part, module)
                elif isinstance(part, ast.Name):
                    self._value(self._resolved(part.id, module, local), id(part) in bases)
                elif isinstance(part, ast.Attribute):
                    self._attribute(part, module, local, id(part) in bases)
                elif isinstance(part, ast.Call):
                    self._call(part, module)
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    self._string(part.value, module)

    def _import(self, statement: ast.Import | ast.ImportFrom, module: Source) -> None:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                self._load(alias.name)
            return
        for base, name in bindings(statement, module).values():
            if name == "*":
                self._take_whole(base)
                continue
            inner = f"{base}.{name}"
            found = self._load(inner if self._is_module(inner) else base)
            if found is not None and found.is_package and found.name == base and name not in found.bound and not found.stars:
                self.absent.add(inner)

    def _string(self, text: str, module: Source) -> None:
        if self._is_module(text):
            self._load(text, as_main=True)  # run as a separate process
        elif file_beside(module.name, text):
            self.files.add(f"{module.name}:{text}")

    def _call(self, part: ast.Call, module: Source) -> None:
        """Follow what an import or an attribute with a computed name may refer to."""
        name = part.func.attr if isinstance(part.func, ast.Attribute) else part.func.id if isinstance(part.func, ast.Name) else ""
        if module.name in READS_CLASSES:
            return
        literal = part.args[0].value if part.args and isinstance(part.args[0], ast.Constant) else None
        if name in ("import_module", "__import__") and isinstance(literal, str) and literal and not literal.startswith("."):
            self._take_whole(literal)
        elif name in ("import_module", "__import__") or (module.name.partition(".")[0] not in OURS and self._is_dynamic(part, name)):
            self._take_around(module)

    @staticmethod
    def _is_dynamic(part: ast.Call, name: str) -> bool:
        computed = name == "getattr" and len(part.args) > 1 and not isinstance(part.args[1], ast.Constant)
        return computed or name in DYNAMIC_CALLS | DYNAMIC_ATTRIBUTES

    def _is_module(self, name: str) -> bool:
        if name not in self._are_modules:
            package, dot, rest = name.partition(".")
            is_name = bool(dot) and package.isidentifier() and rest.replace(".", "_").isidentifier()
            self._are_modules[name] = is_name and self._is_source(package) and path_of(name) is not None
        return self._are_modules[name]

    def _resolved(self, name: str, module: Source, local: Names, seen: frozenset[tuple[str, str]] = frozenset()) -> Found:
        """The meaning of a name in a module."""
        if name in local:
            return self._member(*local[name], seen)
        if name in module.defined:
            return module, module.defined[name]
        if name in module.names:
            return self._member(*module.names[name], seen)
        return next(
            filter(None, (self._member(base, name, seen) for base in module.stars if self._is_source(base.partition(".")[0]))), None
        )

    def _member(self, base: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Found:
        """The meaning of a name that a module defines or imports."""
        if not name:
            return base
        if not self._is_source(base.partition(".")[0]) or self._is_module(f"{base}.{name}"):
            return f"{base}.{name}"
        module = None if (base, name) in seen else read(base)
        return self._resolved(name, module, {}, seen | {(base, name)}) if module else None

    def _expression(self, node: ast.AST, module: Source, local: Names) -> Found:
        """The meaning of a name with dots, with or without a subscript."""
        if isinstance(node, ast.Name):
            return self._resolved(node.id, module, local)
        if isinstance(node, ast.Subscript):
            return self._expression(node.value, module, local)
        found = self._expression(node.value, module, local) if isinstance(node, ast.Attribute) else None
        return self._member(found, node.attr) if isinstance(found, str) and isinstance(node, ast.Attribute) else None

    def _value(self, found: Found, is_base: bool) -> None:
        """Follow a value that reachable code names. A module that is used as a value, and not for one of its names, is followed as a whole."""
        if isinstance(found, tuple):
            self._named(*found)
        elif isinstance(found, str) and not is_base and self._is_source(found.partition(".")[0]):
            self._take_whole(found)

    def _named(self, module: Source, node: Node) -> None:
        if isinstance(node, ast.ClassDef):
            self._class(module, node)
        else:
            self._load(module.name)
            self._follow([node], module, {})

    def _attribute(self, part: ast.Attribute, module: Source, local: Names, is_base: bool) -> None:
        """Follow an attribute: of a module of the project its function or class; of any other value all methods of that name."""
        if isinstance(self._expression(part.value, module, local), str):
            self._value(self._expression(part, module, local), is_base)
        elif part.attr not in self._attributes:
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
        for part in node.body:
            if isinstance(part, ast.AnnAssign):  # validators in the types of fields
                self._follow((one for one in ast.walk(part.annotation) if isinstance(one, ast.Call)), module, {})
            if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if called_outside or part.name.startswith("__") or _is_hook(part) or part.name in self._attributes:
                self._follow([part], module, {})
            else:
                self._waiting[part.name].append((module, part))

    def _bases(self, module: Source, node: ast.ClassDef) -> Iterator[tuple[Source, ast.ClassDef]]:
        for base in node.bases:
            found = self._expression(base, module, {})
            if isinstance(found, tuple) and isinstance(found[1], ast.ClassDef):
                yield found[0], found[1]

    def _is_called_outside(self, module: Source, node: ast.ClassDef) -> bool:
        """Whether a library may call any method, as torch calls `forward`."""
        ours = list(self._bases(module, node))
        plain = [base for base in node.bases if ast.unparse(base).partition("[")[0].rpartition(".")[2] in PLAIN_BASES]
        return len(ours) + len(plain) < len(node.bases) or any(self._is_called_outside(*base) for base in ours)

    def _registers_subclasses(self, module: Source, node: ast.ClassDef) -> bool:
        """Whether a metaclass or a base registers the class, so that it may be used without being named."""
        if any(word.arg == "metaclass" for word in node.keywords):
            return True
        hooks = ("__init_subclass__",)
        return any(
            any(getattr(part, "name", "") in hooks for part in base.body) or self._registers_subclasses(owner, base)
            for owner, base in self._bases(module, node)
        )


def _is_registered(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether a decorator may register the function or class, so that it may be used without being named."""
    names = [ast.unparse(one.func if isinstance(one, ast.Call) else one).rpartition(".")[2] for one in node.decorator_list]
    return any(name not in PLAIN_DECORATORS for name in names)


def _is_hook(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether pydantic calls the method: a validator, serializer or computed field."""
    marks = ("validator", "serializer", "computed_field")
    return method.name in HOOKS or any(mark in ast.unparse(one) for one in method.decorator_list for mark in marks)


@functools.lru_cache(maxsize=100_000)
def _parts(node: ast.AST) -> tuple[ast.AST, ...]:
    """The imports, names, attributes, calls and strings in a node, without annotations and arguments that only name a class."""
    found: list[ast.AST] = []
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Import | ast.ImportFrom | ast.Name | ast.Attribute | ast.Call | ast.Constant):
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
