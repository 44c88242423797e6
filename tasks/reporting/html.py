"""HTML and SVG from function calls: text is escaped unless it is `Markup`."""

from __future__ import annotations

from html import escape

VOID = ("img", "meta", "br")


class Markup(str):
    """A string that is HTML or SVG already and is not escaped."""


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element, such as `tag("td", label, class_="num", data_x=1)`: a trailing `_` of an attribute is dropped, others become `-`.

    Attributes that are None or False are left out.
    """
    kept = {key: value for key, value in attributes.items() if value is not None and value is not False}
    written = "".join(f' {_attribute(key)}="{escape(str(value))}"' for key, value in kept.items())
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: object) -> Markup:
    """Concatenate children: `Markup` unchanged, text escaped, lists flattened, None as empty."""
    if isinstance(children, Markup):
        return children
    if isinstance(children, list | tuple):
        return Markup("".join(join(child) for child in children))
    return Markup("" if children is None else escape(str(children)))


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
