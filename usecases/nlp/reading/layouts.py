"""Detection of the layout of the data from the files, and reading of their texts with labels or spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.nlp.reading.classlists import is_class_list, with_names
from usecases.nlp.reading.kinds import EXPECTED, OTHER, kind_of
from usecases.nlp.reading.lines import label_file_of
from usecases.nlp.reading.records import read_tables
from usecases.nlp.reading.trees import is_class_tree, read_tree
from usecases.nlp.sources import Item, Source
from usecases.reading import arrow, digests
from usecases.reading.archives import is_archive, refuse_archives
from usecases.reading.files import files_below, files_in, subfolders, unwrap, walk
from usecases.reading.splits import split_of, split_of_folder, splits_of_siblings
from usecases.reading.tables import DataFile

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

ABOUT = ("readme", "license", "licence", "notice", "citation", "changelog", "authors", "dataset_info", "state.json")


def find_source(settings: TextSettings) -> Source:
    """Read the texts that the settings name.

    Raises:
        DataError: the data do not exist, have no known layout, or do not fit `settings.task`.
    """
    source = _found(settings)
    if settings.task not in ("auto", source.task):
        holds = "texts with labels" if source.task == "classification" else "texts with marked entities"
        raise DataError(
            f"--usecase.task {settings.task}: {settings.data} holds {holds} ({source.layout}). Leave the setting out, or give other data."
        )
    source.multi_label = {"yes": True, "no": False}.get(settings.multi_label, source.multi_label) and source.task == "classification"
    source.items = _without_bare_splits(source)
    if settings.label_part != "whole":
        _note_shared(source, settings.label_part)
        source.items = [replace(item, labels=_parts(item.labels, settings.label_part)) for item in source.items]
    return source


def _found(settings: TextSettings) -> Source:
    if settings.data == "sample":
        from usecases.nlp.sample import messages

        return messages("entities" if settings.task == "entities" else "classification")
    findings = Findings()
    if settings.data.startswith("hf://"):
        name = settings.data.removeprefix("hf://")
        source = read_tables(arrow.tables_of(arrow.hub_splits(name)), settings, findings)
        source.layout = f"the hub's data set {name}, {source.layout}"
        return source
    path = Path(settings.data).expanduser()
    if not path.exists():
        raise DataError(f"--usecase.data {settings.data} does not exist. Give a folder or file, hf://owner/name, or 'sample'.")
    return _from_file(path, settings, findings) if path.is_file() else _from_folder(path, settings, findings)


def data_digest(settings: TextSettings) -> str:
    """A digest that changes with the files of the settings, and with the encoder, of which prepared data hold a copy."""
    label_files = _label_files(Path(settings.data).expanduser())
    return digests.data_digest(settings.data, settings.unlabelled, *label_files, weights=settings.weights_digest())


def _label_files(path: Path) -> list[Path]:
    """The files of labels that are read with a single file of texts. For a folder the digest covers all files anyway."""
    return [p for p in (label_file_of(path), _class_list(path.parent)) if p] if path.is_file() else []


# -- files and folders ------------------------------------------------------------------------------------------------
def _from_file(path: Path, settings: TextSettings, findings: Findings) -> Source:
    refuse_archives([path])
    return _named(_read([DataFile(path, path.name)], settings, findings), path.parent)


def _from_folder(path: Path, settings: TextSettings, findings: Findings) -> Source:
    root = unwrap(path, lambda files, _inside: not files)
    files = [p for p in files_in(root) if _may_hold_data(p)]
    if not any(kind_of(p, settings).labelled for p in files) and is_class_tree(root):
        return _named(read_tree(path, root, settings.encoding, findings), root)
    found = _with_splits(root, files) or _shards(root)
    if found:
        return _named(_read(_same_kind(found, settings, findings), settings, findings), root)
    refuse_archives(files_in(root))
    inside = subfolders(root)
    if any(True for folder in inside for _ in walk(folder)):
        raise DataError(f"{path} is not a data set itself. Give one of its folders: {', '.join(p.name for p in inside[:10])}.")
    raise DataError(
        f"No texts were found in {path}. Give a table with {EXPECTED[settings.task]} per row, a folder per class, or CoNLL columns."
    )


def _with_splits(root: Path, files: Sequence[Path]) -> list[DataFile]:
    """The files of the folder, or if it has none those in its folders that are named after splits."""
    if files:
        return [DataFile(p, p.name, split_of(p.name)) for p in files]
    folders = subfolders(root)
    named = splits_of_siblings(folder.name for folder in folders)
    inside = [(p, named[folder.name]) for folder in folders if folder.name in named for p in files_in(folder)]
    return [DataFile(p, str(p.relative_to(root)), split) for p, split in inside if _may_hold_data(p)]


def _shards(root: Path) -> list[DataFile]:
    shards = [p for p in files_below(root) if p.match("*.parquet")]
    return [DataFile(p, str(p.relative_to(root)), split_of(p.stem) or split_of_folder(p.parent.name)) for p in shards]


def _may_hold_data(path: Path) -> bool:
    name = path.name.casefold()
    if name.startswith(ABOUT) or path.suffix.casefold() in OTHER or is_archive(path):
        return False
    return not is_class_list(path) and path.stat().st_size > 0


def _class_list(folder: Path) -> Path | None:
    return next((p for p in sorted(folder.iterdir()) if p.is_file() and is_class_list(p)), None)


def _named(source: Source, folder: Path) -> Source:
    listed = _class_list(folder)
    return with_names(source, listed) if listed else source


# -- one layout -------------------------------------------------------------------------------------------------------
def _same_kind(found: list[DataFile], settings: TextSettings, findings: Findings) -> list[DataFile]:
    """The files of the layout with most bytes. Files of other layouts are left out; so are files without a split if others name the training split."""
    labels = {label_file_of(f.path) for f in found}
    kinds = {f: kind_of(f.path, settings) for f in found if f.path not in labels}
    size = {kind: sum(f.path.stat().st_size for f in kinds if kinds[f] == kind) for kind in kinds.values()}
    chosen = max(size, key=lambda kind: (kind.labelled, size[kind]))
    kept = [f for f in kinds if kinds[f] == chosen]
    given = {f.split for f in kept}
    if "train" in given:
        kept = [f for f in kept if f.split]
    for other in (f for f in kinds if f not in kept):
        findings.note("file that is not part of the data set", other.name, "ignored")
    return kept


def _read(found: Sequence[DataFile], settings: TextSettings, findings: Findings) -> Source:
    return kind_of(found[0].path, settings).read(found, settings, findings)


# -- labels -----------------------------------------------------------------------------------------------------------
def _without_bare_splits(source: Source) -> list[Item]:
    """The items without the splits that have no labels: they are empty, or all -1 as in the test split of GLUE."""
    bare = {item.split for item in source.items} - {None}
    labelled = {item.split for item in source.items if item.spans or (item.labels and item.labels != ("-1",))}
    held_back = bare - labelled
    if not held_back or not labelled:
        return source.items
    for split in sorted(str(split) for split in held_back):
        count = sum(item.split == split for item in source.items)
        source.findings.note("split without labels", f"{split}: {count:,} texts", "left out", count)
    return [item for item in source.items if item.split not in held_back]


def _note_shared(source: Source, part: str) -> None:
    """Report fine labels that belong to several coarse ones, such as `other`."""
    coarse: dict[str, set[str]] = {}
    for label in {label for item in source.items for label in item.labels}:
        coarse.setdefault(label.partition(":")[2], set()).add(label.partition(":")[0])
    for name, over in sorted(coarse.items()) if part == "fine" else ():
        if name and len(over) > 1:
            source.findings.note(
                "fine label of several coarse ones",
                f"{name}: {', '.join(sorted(over))}",
                "merged into one label; --usecase.label_part whole keeps them apart",
            )


def _parts(labels: tuple[str, ...], part: str) -> tuple[str, ...]:
    """The coarse or fine parts of labels such as DESC:manner; a label without a colon is kept."""
    cut = (label.partition(":") for label in labels)
    return tuple(dict.fromkeys(before if part == "coarse" or not colon else after for before, colon, after in cut))
