"""What the pages of the documentation take from elsewhere in the project.

`{{ settings PATH CLASS PREFIX }}` becomes a table of settings, read from the source, and `{{ page PATH }}` a page that lies outside of `docs/`.
Nothing is imported, so that the documentation builds without the project's dependencies.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PLACE = re.compile(r"^\{\{ settings (\S+) (\w+) (\S+) \}\}$", re.MULTILINE)
PAGE = re.compile(r"^\{\{ page (\S+) \}\}$", re.MULTILINE)
FIELDS = ("Field", "setting", "_row")


class Setting(NamedTuple):
    name: str
    type: str
    default: str
    description: str


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    markdown = PAGE.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8").replace("](docs/", "]("), markdown)
    return PLACE.sub(lambda found: table(ROOT / found[1], found[2], found[3]), markdown)


def table(path: Path, name: str, prefix: str) -> str:
    """A Markdown table of the settings that a class declares itself.

    Args:
        path: of the module.
        name: of the class.
        prefix: before the names of its settings, such as `--fit.`.

    Returns:
        Rows of option, default and description.

    Raises:
        ValueError: the module has no such class, or the class declares no setting.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    rows = settings(found) if found else []
    if not rows:
        raise ValueError(f"{path} declares no class {name} with settings.")
    lines = ["| setting | values | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{prefix}{one.name}` | {escaped(one.type)} | {escaped(one.default)} | {escaped(one.description)} |" for one in rows]
    return "\n".join(lines)


def settings(node: ast.ClassDef) -> list[Setting]:
    """The fields of a class that have a description."""
    rows = []
    for statement in node.body:
        call = statement.value if isinstance(statement, ast.AnnAssign) else None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in FIELDS:
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        default = given.get("default", call.args[0] if call.args else None)
        if "description" in given and isinstance(statement, ast.AnnAssign):
            rows.append(Setting(ast.unparse(statement.target), values(statement.annotation), shown(default), text(given["description"])))
    return rows


def values(annotation: ast.expr) -> str:
    """The choices of a Literal, or the name of the type."""
    written = ast.unparse(annotation)
    choices = re.fullmatch(r"Literal\[(.*)\]", written)
    if choices:
        return ", ".join(f"`{choice.strip().strip(chr(39))}`" for choice in choices[1].split(","))
    return {"str": "text", "int": "whole number", "float": "number", "bool": "yes or no"}.get(
        written, "list" if "tuple" in written else written
    )


def shown(default: ast.expr | None) -> str:
    if default is None:
        return ""
    written = (
        ast.unparse(default).replace("_", "")
        if isinstance(default, ast.Constant) and isinstance(default.value, int)
        else ast.unparse(default)
    )
    return "" if written in ("''", "()") else f"`{written.strip(chr(39))}`"


def text(description: ast.expr) -> str:
    """A string literal; parts that are computed are left out."""
    if isinstance(description, ast.Constant):
        return str(description.value)
    if isinstance(description, ast.JoinedStr):
        return "".join(text(part) for part in description.values)
    if isinstance(description, ast.FormattedValue):
        return "…"
    return "".join(text(part) for part in ast.iter_child_nodes(description) if isinstance(part, ast.expr))


def escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
