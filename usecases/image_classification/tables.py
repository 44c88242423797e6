"""Images from tables: CSV files or JSON lines of paths and labels, parquet files with image bytes, data sets of the hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.images import SUFFIXES
from usecases.reading.arrow import class_names, hub_splits, open_parquet
from usecases.reading.class_folders import Item, Source
from usecases.reading.encodings import TextFile
from usecases.reading.splits import SPLIT_COLUMNS, split_of, split_of_cell, split_of_folder
from usecases.reading.tables import DataFile, Table, as_text, json_lines, separated

if TYPE_CHECKING:
    from usecases.image_classification import ImageSettings

LABEL_NAMES = ("label", "labels", "class", "class_name", "classname", "target", "category", "y", "fine_label", "coarse_label")
SNIFFED_ROWS = 50
EXPECTED = "a path and a label"  # in each line


# -- text -------------------------------------------------------------------------------------------------------------
def from_text(path: Path, settings: ImageSettings, findings: Findings) -> list[Item]:
    """The images of a CSV or TSV file of paths and labels, with or without a header, or of JSON lines.

    Args:
        path: the file; paths in it are relative to its folder.
        settings: names of the columns and the encoding, where they are given.
        findings: where unusable rows are noted.

    Returns:
        The images.

    Raises:
        DataError: the file is empty, or the column of paths or of labels cannot be detected.
    """
    text = TextFile(path, settings.encoding, findings)
    data_file = DataFile(path, path.name)
    if path.suffix.casefold() == ".jsonl":
        table = as_text(json_lines(data_file, text, findings, EXPECTED))
    else:
        table = separated(data_file, text, lambda rows: not any(map(_is_image_name, rows[0])), f"It should contain {EXPECTED} per line.")
    image, label, split = _columns(path, table, settings)
    items = []
    for where, row in table.rows():
        if len(row) <= max(image, label) or not row[label].strip():
            findings.set_aside("row without a label", where)
            continue
        named = Path(row[image].strip().replace("\\", "/"))
        file = named if named.is_absolute() else path.parent / named
        if not file.is_file():
            findings.set_aside("missing image", f"{where}: {row[image].strip()}")
            continue
        given = split_of_cell(table.columns[split], row[split]) if split is not None and split < len(row) else None
        items.append(Item(f"{where}: {row[image].strip()}", row[label].strip(), file.read_bytes, given, file=file))
    return items


def _columns(path: Path, table: Table, settings: ImageSettings) -> tuple[int, int, int | None]:
    """The numbers of the columns of paths, of labels and of splits; None without a column of splits."""
    names = table.columns
    body = [row for (_, row), _ in zip(table.rows(), range(SNIFFED_ROWS), strict=False)]
    likely = {i: sum(_is_image_name(row[i]) for row in body if i < len(row)) for i in range(len(names))}
    image = _named(settings.image_column, names, path, "image") if settings.image_column else max(likely, key=lambda i: likely[i])
    if not settings.image_column and not likely[image]:
        raise DataError(
            f"No column of {path} contains file names of images. Columns: {', '.join(names)}. Name it with --usecase.image_column."
        )
    others = [i for i in range(len(names)) if i != image]
    split = next((i for i in others if names[i].casefold() in SPLIT_COLUMNS), None)
    if settings.label_column:
        return image, _named(settings.label_column, names, path, "label"), split
    return image, _label_column(names, [i for i in others if i != split], path), split


def _label_column(names: Sequence[str], others: Sequence[int], path: Path) -> int:
    by_name = [i for i in others if names[i].casefold() in LABEL_NAMES]
    if not by_name and len(others) != 1:
        raise DataError(
            f"The column of labels in {path} cannot be detected among {', '.join(names[i] for i in others)}. "
            "Name it with --usecase.label_column."
        )
    return (by_name or others)[0]


def _named(column: str, names: Sequence[str], path: Path | str, what: str) -> int:
    if column not in names:
        raise DataError(f"{path} has no column {column!r} (--usecase.{what}_column). Columns: {', '.join(names)}.")
    return list(names).index(column)


def _is_image_name(cell: str) -> bool:
    return Path(cell.strip().replace("\\", "/")).suffix.casefold() in SUFFIXES


# -- parquet ----------------------------------------------------------------------------------------------------------
def from_parquet(shards: Sequence[Path], settings: ImageSettings) -> Source:
    """The images of parquet files whose image column contains bytes, either plain or as the hub writes them: {bytes, path}.

    Raises:
        DataError: a file is not parquet, or has no column of image bytes or of labels.
    """
    found = Source(f"parquet with image bytes, {len(shards)} file{'s' if len(shards) > 1 else ''}", [])
    for path in shards:
        file = open_parquet(path)
        image, label = _parquet_columns(path, file.schema_arrow, settings)
        names = class_names(file.schema_arrow).get(label, [])
        split, row = split_of(path.stem) or split_of_folder(path.parent.name), 0
        for group in range(file.num_row_groups):
            for number, value in enumerate(file.read_row_group(group, columns=[label]).column(label).to_pylist()):
                name = f"{path.name} row {row}"
                row += 1
                if value is None:
                    found.findings.set_aside("row without a label", name)
                else:
                    found.items.append(_parquet_item(name, _label_text(value, names), path, group, image, number, split))
    if {item.split for item in found.items} == {"train"}:
        found.layout += ", without splits"
    return found


def _parquet_item(name: str, label: str, path: Path, group: int, column: str, number: int, split: str | None) -> Item:
    def read() -> bytes:
        value = _row_group(path.resolve(), path.stat().st_ctime_ns, group, column)[number].as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        return value or b""

    return Item(name, label, read, split)


@lru_cache(maxsize=1)
def _row_group(path: Path, changed: int, group: int, column: str) -> Any:
    """One column of a row group. Items are read in their order, so that one row group at a time is in memory."""
    return open_parquet(path).read_row_group(group, columns=[column]).column(column)


def _parquet_columns(path: Path, schema: Any, settings: ImageSettings) -> tuple[str, str]:
    import pyarrow as pa

    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    held = [f.name for f in schema if holds_bytes(f.type)]
    if settings.image_column:
        image = schema.names[_named(settings.image_column, schema.names, path, "image")]
    elif held:
        image = held[0]
    else:
        raise DataError(f"No column of {path} contains image bytes. Columns: {', '.join(schema.names)}.")
    if settings.label_column:
        return image, schema.names[_named(settings.label_column, schema.names, path, "label")]
    others = [i for i, name in enumerate(schema.names) if name != image]
    return image, schema.names[_label_column(schema.names, others, path)]


def _label_text(value: Any, names: Sequence[str]) -> str:
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return str(value)


# -- hub --------------------------------------------------------------------------------------------------------------
def from_hub(name: str, settings: ImageSettings) -> Source:
    """The images of a data set of the Hugging Face hub. Raises `DataError`: it cannot be loaded, or has no column of images or labels."""
    return from_datasets(name, hub_splits(name), settings)


def from_datasets(name: str, splits: dict[str, Any], settings: ImageSettings) -> Source:
    """The images of loaded splits of a hub data set.

    Args:
        name: of the data set, for messages.
        splits: data sets of the package `datasets`, by the hub's names of the splits.
        settings: names of the columns, where they are given.

    Returns:
        The images and the layout.

    Raises:
        DataError: there is no column of images or of labels.
    """
    import datasets

    found = Source(f"data set {name} of the hub", [])
    for split, rows in splits.items():
        features = rows.features
        images = [c for c in features if isinstance(features[c], datasets.Image)]
        labels = [c for c in features if isinstance(features[c], datasets.ClassLabel)] or [
            c for c in features if c.casefold() in LABEL_NAMES
        ]
        image = settings.image_column or next(iter(images), "")
        label = settings.label_column or next(iter(labels), "")
        for column, what in ((image, "image"), (label, "label")):
            _named(column, list(features), f"hf://{name}", what)
        encoded = rows.cast_column(image, datasets.Image(decode=False))
        names = list(getattr(features[label], "names", None) or [])
        for index, value in enumerate(rows[label]):
            found.items.append(Item(f"{split} row {index}", _label_text(value, names), _hub_reader(encoded, image, index), split_of(split)))
    return found


def _hub_reader(rows: Any, column: str, index: int) -> Callable[[], bytes | np.ndarray]:
    def read() -> bytes:
        value = rows[index][column]
        return value["bytes"] or Path(value["path"]).read_bytes()

    return read
