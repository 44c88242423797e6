"""Readers of Arrow tables: parquet files and data sets of the Hugging Face hub, with the names of numbered classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import DataError
from usecases.reading.splits import split_of
from usecases.reading.tables import DataFile, Rows, Table

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

BATCH = 1000


def parquet(found: DataFile) -> Table:
    """Open a parquet file, with the names of classes from its metadata, where the hub stores them.

    Raises:
        DataError: the file is not parquet.
    """
    schema = open_parquet(found.path).schema_arrow

    def rows() -> Rows:
        number = 0
        with open_parquet(found.path) as file:
            for batch in file.iter_batches(BATCH):
                for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield f"{found.name} row {number}", list(cells)
                    number += 1

    return Table(found.name, schema.names, rows, found.split, classes=class_names(schema))


def open_parquet(path: Path) -> ParquetFile:
    """Open a parquet file.

    Raises:
        DataError: the file is not parquet, or it is damaged.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}. Write or download it again.") from None


def class_names(schema: Any) -> dict[str, list[str]]:
    """The names of numbered classes by column, from the metadata of the schema, where the hub's data sets store them."""
    written = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(written).get("info", {}).get("features", {}) if written else {}
    found = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("names"):
            found[column] = list(inner["names"])
    return found


def hub_splits(name: str) -> dict[str, Any]:
    """Load the splits of a data set of the Hugging Face hub by their names. `datasets` caches them.

    Args:
        name: `owner/name` or `owner/name/configuration`.

    Raises:
        DataError: the data set cannot be loaded.
    """
    owner, _, named = name.partition("/")
    named, _, configuration = named.partition("/")
    if not owner or not named:  # the library would look for a local folder of this name
        raise DataError(f"hf://{name} does not name a data set of the hub. Give hf://owner/name, or hf://owner/name/configuration.")
    import datasets

    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(f"{owner}/{named}", configuration or None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"hf://{name} could not be loaded from the hub: {reason}. Check the name and the network, or give a local copy."
        ) from None
    return {str(split): rows for split, rows in dict(loaded).items()}  # pyright: ignore[reportArgumentType]


def tables_of(splits: dict[str, Any]) -> list[Table]:
    """The loaded splits of a data set of the hub as tables."""
    return [_hub_table(split, rows) for split, rows in splits.items()]


def _hub_table(split: str, loaded: Any) -> Table:
    def rows() -> Rows:
        number = 0
        for batch in loaded.with_format(None).iter(BATCH):
            for cells in zip(*(batch[column] for column in loaded.column_names), strict=True):
                yield f"{split} row {number}", list(cells)
                number += 1

    named = {column: getattr(feature, "feature", feature) for column, feature in loaded.features.items()}
    classes = {column: list(feature.names) for column, feature in named.items() if getattr(feature, "names", None)}
    return Table(split, list(loaded.column_names), rows, split_of(split), classes=classes)
