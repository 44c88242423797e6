"""HTML and SVG by calls: whatever is not markup already is escaped when it is put into a tag."""

from __future__ import annotations

from html import escape

VOID = ("img", "meta", "br")


class Markup(str):
    """Text that is markup already."""


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """`tag("td", label, class_="num", data_x=1)`: a trailing `_` is dropped, others become `-`; None and False are left out."""
    kept = {key: value for key, value in attributes.items() if value is not None and value is not False}
    written = "".join(f' {_attribute(key)}="{escape(str(value))}"' for key, value in kept.items())
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: object) -> Markup:
    """Markup as it is, text escaped, lists one after another, None as nothing."""
    if isinstance(children, Markup):
        return children
    if isinstance(children, list | tuple):
        return Markup("".join(join(child) for child in children))
    return Markup("" if children is None else escape(str(children)))


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
