"""Small immutable values that cross the edges of a flow, and how they come back as the class they were."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks.contract.errors import BundleError

TRUSTED_PACKAGES = ("usecases.", "tasks.", "tests.")


class Record(BaseModel):
    """A small immutable value. A misspelt field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def write_typed(record: Record) -> dict[str, Any]:
    """The record's fields and the name of its class, so that it comes back as what it was."""
    return {"type": f"{type(record).__module__}:{type(record).__qualname__}", **record.model_dump(mode="json")}


def read_typed(written: object) -> Record:
    """The inverse of `write_typed`.

    Raises:
        BundleError: the class is unknown, no record, or lives outside the packages that are trusted.
    """
    if isinstance(written, Record):
        return written
    if not isinstance(written, Mapping) or not isinstance(written.get("type"), str):
        raise BundleError(f"This record does not name its class: {written!r:.200}")
    module_name, _, class_name = written["type"].partition(":")
    if not module_name.startswith(TRUSTED_PACKAGES):
        raise BundleError(f"The record names the class {written['type']!r}, which is not one of ours: not read.")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise BundleError(f"The record names the class {written['type']!r}, which this version does not have.") from error
    if not (isinstance(found, type) and issubclass(found, Record)):
        raise BundleError(f"The record names {written['type']!r}, which is no record.")
    return found.model_validate({name: value for name, value in written.items() if name != "type"})
