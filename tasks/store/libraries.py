"""Versions of libraries; and packages that are no libraries but source code of the user, whose content counts instead of a version."""

from __future__ import annotations

import functools
import importlib.metadata
import site
import sys
import sysconfig
from pathlib import Path

from tasks.store.source import locations, sha256_of_file

DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "pycrfsuite": "python-crfsuite",
    "lightning_fabric": "pytorch-lightning",
}
"""Names of distributions that differ from those of their modules; others are searched for, which takes longer."""
NOT_INSTALLED = "not installed"


@functools.cache
def is_source(package: str) -> bool:
    """Whether a top-level package or module is source code of the user: it is on disk, but not a file of an installed distribution.

    Examples are modules next to a script, packages on `PYTHONPATH` and editable installations: their content may change under one version.
    """
    places = () if package in sys.stdlib_module_names or package in sys.builtin_module_names else locations(package)
    if not places:
        return False
    place, names = places[0].resolve(), distributions_of(package)
    if any(place.is_relative_to(folder) for folder in _site_folders()):
        return not names
    return not any(_brought(name, place) for name in names)


@functools.cache
def distributions_of(package: str) -> tuple[str, ...]:
    """The names of the installed distributions that a top-level package belongs to."""
    name = DISTRIBUTIONS.get(package, package)
    return (name,) if installed_version(name) else tuple(sorted(set(_by_package().get(package, ()))))


@functools.cache
def installed_version(distribution: str) -> str:
    """The version of a distribution; empty if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""


@functools.cache
def version_without_distribution(package: str) -> str:
    """The version of a package without a distribution: the sha256 of its first file, or `not installed`."""
    place = next(iter(locations(package)), None)
    return NOT_INSTALLED if place is None else sha256_of_file(place if place.is_file() else place / "__init__.py")


@functools.cache
def _by_package() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


@functools.cache
def _site_folders() -> tuple[Path, ...]:
    paths = {*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return tuple(Path(path).resolve() for path in paths)


def _brought(distribution: str, place: Path) -> bool:
    """Whether the files of a distribution include the package at a place."""
    found = importlib.metadata.distribution(distribution)
    wanted = {place, place / "__init__.py"}
    return any(
        file.name in ("__init__.py", place.name) and Path(str(found.locate_file(file))).resolve() in wanted for file in found.files or ()
    )
