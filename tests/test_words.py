"""The project speaks in the words of its field: docs/glossary.md says which, and these are the ones that crept in before."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = [path for folder in ("flows", "tasks", "usecases", "deploy", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
TEXTS = [*sorted((ROOT / "tasks").rglob("*.js")), *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md")), ROOT / "prefect.yaml"]

NAMES = {  # parts of any identifier, and what the field calls the thing
    "told": "given, inputs, outputs, reported",
    "sure": "confidence",
    "sureness": "confidence",
    "surprise": "negative log-likelihood",
    "tallies": "per-example statistics",
    "guesser": "MLM head",
    "guesses": "token predictions",
    "settled": "resolved",
    "nought": "zero",
    "taught": "distilled",
    "teaching": "distillation",
    "middles": "centres",
}
CLASSES = {"Unnamed": "Unauthorized", "Gone": "ClientDisconnected", "Overloaded": "TooManyRequests", "Late": "DeadlineExceeded"}
CONSTANTS = {"LEAST": "MIN", "FEWEST": "MIN", "SHORTEST": "MIN", "MOST": "MAX", "LARGEST": "MAX", "LONGEST": "MAX", "FARTHEST": "MAX"}
PHRASES = {
    r"in words\b": "with a clear message",
    r"said so\b": "reported",
    r"\btold\b": "given, reported, detected",
    r"what is there\b": "the value that exists",
    r"who ha(s|ve) none": "without one",
    r"as they came\b": "unchanged",
    r"\bbeside\b": "next to, besides, in addition to",
    r"\bnought\b": "zero",
    r"what it buys": "gain",
    r"\btaught\b": "distilled",
    r"(?<!-)\bteaching\b": "distillation",
    r"\bsureness\b": "confidence",
    r"known answer": "cached response",
    r"\bhidden tokens\b": "masked tokens (masked language modelling)",
    r"\bsigns by magnitude|zeros by magnitude": "magnitude pruning",
    r"\blow rank\b": "low-rank factorisation, LoRA",
}


def parts(identifier: str) -> list[str]:
    return [word.casefold() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)]


def names(path: Path) -> set[str]:
    """All identifiers that a module defines."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {*found, *path.relative_to(ROOT).with_suffix("").parts}


def sentences(path: Path) -> list[tuple[int, str]]:
    """Line and text of every string and comment; of other files every line."""
    if path.suffix != ".py":
        return list(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    return [(token.start[0], token.string) for token in tokens if token.type in kinds]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_names(path: Path) -> None:
    wrong = [f"{name}: {NAMES[part]}" for name in sorted(names(path)) for part in parts(name) if part in NAMES]
    wrong += [f"{name}: {CLASSES[name]}" for name in sorted(names(path)) if name in CLASSES]
    wrong += [
        f"{name}: {CONSTANTS[part]}" for name in sorted(names(path)) if name.isupper() for part in name.split("_") if part in CONSTANTS
    ]
    assert not wrong, f"{path.relative_to(ROOT)}: rename " + "; ".join(wrong)


@pytest.mark.parametrize("path", [*CODE, *TEXTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_phrases(path: Path) -> None:
    wrong = [
        f"line {number}: {phrase} -> {better}"
        for number, text in sentences(path)
        for phrase, better in PHRASES.items()
        if re.search(phrase, text, re.IGNORECASE)
    ]
    assert not wrong, f"{path.relative_to(ROOT)}\n" + "\n".join(wrong)


def lacking(path: Path) -> list[str]:
    """Public functions of three or more parameters whose docstring names no arguments, or no returned value or error that there is."""
    tree, wrong = ast.parse(path.read_text(encoding="utf-8")), []
    owners = [("", tree.body), *((f"{c.name}.", c.body) for c in tree.body if isinstance(c, ast.ClassDef) and not c.name.startswith("_"))]
    for owner, body in owners:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")]
            text = ast.get_docstring(node)
            if len(given) < 3 or (text is None and owner):  # a method without one has that of the contract which it fulfils
                continue
            returns = node.returns is not None and ast.unparse(node.returns) not in ("None", "NoReturn")
            generator = any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node))
            needed = ["Args:"] + (["Yields:" if generator else "Returns:"] if returns else [])
            missing = [part for part in needed if part not in (text or "")]
            if missing:
                wrong.append(f"{owner}{node.name} (line {node.lineno}) has no {' and no '.join(missing)}")
    return wrong


@pytest.mark.parametrize("path", [path for path in CODE if path.parts[len(ROOT.parts)] in ("flows", "tasks", "usecases")], ids=str)
def test_docstrings(path: Path) -> None:
    assert not lacking(path), "\n".join(lacking(path))
