"""Records: small immutable values that the steps of a flow pass to each other, and how they are written to and read from JSON."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks.contract.errors import BundleError
from tasks.contract.plugins import trusted_packages

FORMAT = 1
"""Format of records, manifests and bundles. Files of the release before formats were numbered count as format 0."""
ALIASES: dict[str, str] = {"usecases.nlp:HiddenTokens": "usecases.nlp:MaskedLanguageModelling"}
"""The present name of each class that was moved or renamed, by the name that earlier releases wrote."""


class Record(BaseModel):
    """A small immutable value. An unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Settings(Record):
    """Values that users set. Infinity and NaN are refused, while a measurement in another record may be either."""

    model_config = ConfigDict(allow_inf_nan=False)


def write_typed(record: Record) -> dict[str, Any]:
    """The fields of a record with the name of its class and the format, from which `read_typed` makes the same record."""
    return {"type": f"{type(record).__module__}:{type(record).__qualname__}", "format": FORMAT, **record.model_dump(mode="json")}


def read_typed(written: object) -> Record:
    """The record that `write_typed` wrote.

    Raises:
        BundleError: the class is unknown, is not a `Record`, or is not in a trusted package; or a later release wrote the record.
    """
    if isinstance(written, Record):
        return written
    if not isinstance(written, Mapping) or not isinstance(written.get("type"), str):
        raise BundleError(f"This record does not name its class: {written!r:.200}")
    _check_format(written.get("format", 0), written["type"])
    named = ALIASES.get(written["type"], written["type"])
    module_name, _, class_name = str(named).partition(":")
    if module_name.partition(".")[0] not in trusted_packages(module_name.partition(".")[0]):
        raise BundleError(
            f"The record names the class {named!r}, which belongs neither to this project nor to an installed package with an entry point "
            "in verticals.usecases. It is not read."
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise BundleError(f"The record names the class {named!r}, which this version does not have.") from error
    if not (isinstance(found, type) and issubclass(found, Record)):
        raise BundleError(f"The record names {named!r}, which is not a class of records.")
    return found.model_validate({name: value for name, value in written.items() if name not in ("type", "format")})


def _check_format(number: object, named: str) -> None:
    if not isinstance(number, int) or number > FORMAT:
        raise BundleError(
            f"The record of class {named!r} is in format {number!r}; this release reads formats up to {FORMAT}. "
            "Install the release that wrote it, or a later one."
        )
