"""The plan of the house: who may import whom, and what an import may cost."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.contract.plugins import entry_points

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "pytorch_lightning", "lightning", "transformers"}
COMMANDS = {"usecases/driving_perception/overlay.py": "tasks.serving"}  # a command of a vertical may open a bundle
CONTRACT = {"tasks.contract"}


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """The modules a file imports, those for type checkers aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for_checkers = {
        id(n) for guard in ast.walk(tree) if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.dump(guard.test) for n in guard.body
    }
    names: set[str] = set()
    for node in nodes:
        if id(node) in for_checkers:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", sources("usecases"), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_vertical_knows_only_the_contract(path: Path) -> None:
    names = imported(path)
    assert not packages(names) & {"prefect", "pytorch_lightning", "lightning", "onnxruntime", "flows", "torchvision"}
    ours = {name for name in names if name.startswith("tasks.")}
    command = COMMANDS.get(str(path.relative_to(ROOT)))
    ours -= {name for name in ours if command and (name == command or name.startswith(f"{command}."))}
    assert all(any(name == c or name.startswith(f"{c}.") for c in CONTRACT) for name in ours), ours


@pytest.mark.parametrize("path", sources("tasks"), ids=lambda p: str(p.relative_to(ROOT)))
def test_tasks_know_no_vertical_and_engines_no_prefect(path: Path) -> None:
    names = imported(path)
    assert not packages(names) & {"usecases", "flows", "torchvision"}
    if path.parent != ROOT / "tasks":
        assert "prefect" not in packages(names)
    else:
        assert not packages(names) & HEAVY, "only engines load torch"


WORDS = {  # of answers and requests of single verticals; what any answer may hold is in tasks/contract/blocks.py
    "advice", "because", "boxes", "doubts", "entities", "shares", "signal", "signals", "steering", "throttle", "trusted",
}  # fmt: skip


def literals(path: Path) -> list[str]:
    """The string literals of a module, docstrings and former names of classes aside; of a script all lines without their comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return [line.partition("// ")[0] for line in text.splitlines()]
    tree = ast.parse(text)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in alone]
    found = [node.value for node in constants if isinstance(node.value, str)]
    return [literal for literal in found if not re.fullmatch(r"usecases[\w.]*:\w+", literal)]


@pytest.mark.parametrize("path", [*sources("tasks"), *(ROOT / "tasks").rglob("*.js")], ids=lambda p: str(p.relative_to(ROOT)))
def test_tasks_do_not_speak_the_words_of_a_vertical(path: Path) -> None:
    packages = [path for path in (ROOT / "usecases").glob("*/__init__.py") if (path.parent / "codec.py").exists()]
    declared = [re.findall(r'^    name: ClassVar\[str\] = "(\w+)"', path.read_text(encoding="utf-8"), re.M) for path in packages]
    names = {path.parent.name for path in packages}.union(*declared)
    assert len(packages) >= 4 and all(declared)
    spoken = [literal for literal in literals(path) if names & set(re.findall(r"\w+", literal))]
    keys = [literal for literal in literals(path) if WORDS & ({literal} if path.suffix == ".py" else set(re.findall(r"[\w-]+", literal)))]
    assert not spoken and not keys


@pytest.mark.parametrize("path", [p for p in sorted((ROOT / "flows").glob("[!_]*.py")) if p.name != "cli.py"], ids=lambda p: p.name)
def test_a_flow_is_wiring_only(path: Path) -> None:
    assert packages(imported(path)) <= {"prefect", "tasks", "usecases", "flows"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 65


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        *[(f"flows.{path.stem}", HEAVY) for path in sorted((ROOT / "flows").glob("[!_]*.py"))],
        *[(point.module, HEAVY | {"prefect"}) for point in entry_points().values()],
        ("usecases.driving_perception.codec", HEAVY | {"prefect"}),
        ("usecases.driving_perception.heads.table", HEAVY | {"prefect"}),
        ("usecases.driving_perception.overlay", HEAVY | {"prefect"}),
        ("usecases.nlp.codec", HEAVY | {"prefect"}),
        ("usecases.nlp.explaining", HEAVY | {"prefect"}),
        ("tasks.serving.__main__", HEAVY | {"prefect"}),
    ],
)
def test_imports_stay_light(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*(m for m in {sorted(forbidden)!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def modules() -> dict[str, Path]:
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources("flows", "tasks", "usecases")}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def test_no_import_circles() -> None:
    """Function-level imports count, those for type checkers do not."""
    ours = modules()
    graph = {name: {other for other in imported(path) if other in ours} - {name} for name, path in ours.items()}
    for _ in range(2):  # leave out what leads to no circle, and then what no circle leads to
        while ends := {name for name, others in graph.items() if not others}:
            graph = {name: others - ends for name, others in graph.items() if name not in ends}
        graph = {name: {other for other in graph if name in graph[other]} for name in graph}
    assert not graph, "each of these imports another of them, and so itself"
