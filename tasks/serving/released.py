"""Find a model by what people call it."""

from __future__ import annotations

from pathlib import Path

from tasks.contract.artifacts import home
from tasks.contract.errors import BundleError
from tasks.contract.plugins import entry_points
from tasks.store.artifacts import find
from tasks.store.runs import find_run


def models_folder() -> Path:
    """The repository that every run releases to: a folder of NAME/VERSION/ bundles."""
    return home() / "models"


def find_bundle(name: str) -> Path:
    """The folder of a bundle.

    Args:
        name: the folder itself; a released model such as `nlp`, of which the newest version is meant; `nlp/3`; the id of a run, `last`; or
            the first eight or more characters of a digest.

    Returns:
        The folder.

    Raises:
        BundleError: nothing has that name; the message lists the models that were released.
    """
    if Path(name).is_dir() or Path(name).is_absolute():
        return Path(name)  # opening it tells what is missing there
    if folder := _version(*name.replace("-", "_").strip("/").partition("/")[::2]):
        return folder
    for lookup in (lambda: find_run(name).release.bundle, lambda: find(name)):
        try:
            return lookup()
        except BundleError:
            continue
    released = ", ".join(sorted(path.name for path in models_folder().glob("*") if path.is_dir())) or "none yet"
    raise BundleError(
        f"There is no model {name!r}: it is no folder of a bundle, no run (`verticals runs` lists them) and no released model. "
        f"Released in {models_folder()}: {released}. `verticals run` trains and releases one."
    )


def _version(model: str, version: str) -> Path | None:
    """The folder of a released version; the newest where none is named. Verticals are known by the command's name, too."""
    point = entry_points().get(model)
    names = [model, *([point.load().name] if point and not (models_folder() / model).exists() else [])]
    versions = {path.name: path for one in names for path in (models_folder() / one).glob("[0-9]*") if path.name.isdigit()}
    return versions.get(version) if version else max(versions.values(), key=lambda path: int(path.name), default=None)
