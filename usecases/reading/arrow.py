"""Tables kept by Arrow: parquet files, and data sets of the Hugging Face hub. Both know the names of numbered classes."""

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
    """A parquet file; names of classes are read from its metadata, where the hub keeps them.

    Raises:
        DataError: not parquet.
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
    """Raises `DataError`: the file is not parquet, or damaged."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}.") from None


def class_names(schema: Any) -> dict[str, list[str]]:
    """By column, the names of numbered classes, as the hub's data sets keep them in the metadata of the schema."""
    written = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(written).get("info", {}).get("features", {}) if written else {}
    found = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("names"):
            found[column] = list(inner["names"])
    return found


def hub_splits(name: str) -> dict[str, Any]:
    """The splits of a data set of the Hugging Face hub by their names, cached by `datasets`.

    Args:
        name: `owner/name` or `owner/name/configuration`.

    Raises:
        DataError: it cannot be loaded.
    """
    import datasets

    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    owner, _, named = name.partition("/")
    named, _, configuration = named.partition("/")
    try:
        loaded = datasets.load_dataset(f"{owner}/{named}" if named else owner, configuration or None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"hf://{name} cannot be had from the hub: {reason}. Check the name and the network, or give a local copy."
        ) from None
    return {str(split): rows for split, rows in dict(loaded).items()}  # pyright: ignore[reportArgumentType]


def tables_of(splits: dict[str, Any]) -> list[Table]:
    """Loaded splits of a hub data set, by the hub's names."""
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
