"""The log of predictions: a sample of requests and answers in Parquet files, for monitoring.

It is off unless a folder is set, since it stores what users sent. The columns of a row, which is one request, are:

time, model, version, protocol, milliseconds, `request` (bytes; /v1 only) and `request_type` (bytes, text or json), `answer` (JSON; /v1 only),
and `inputs` and `outputs` of the graph, each a list of {name, datatype, shape, data}. Files are `FOLDER/MODEL/TIME-PROCESS.parquet`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.types import Arrays
from tasks.serving.logs import log_event

Row = dict[str, Any]
MAX_FILE_ROWS, MAX_FILE_BYTES = 1000, 16_000_000  # a file is written once it has so many rows or bytes
MAX_PENDING_BYTES = 4 * MAX_FILE_BYTES  # bytes that are not written yet; further predictions are dropped and counted
MAX_TENSOR_BYTES = 4_000_000  # bytes; of a larger tensor only the shape is logged


class PredictionLog:
    """Collects predictions in one event loop, and writes them in a separate thread."""

    def __init__(self, folder: Path, share: float, max_bytes: int) -> None:
        """Args:
        folder: of the files; created if it does not exist.
        share: fraction of the predictions that are logged, at random.
        max_bytes: limit of all files together; the oldest are removed first.
        """
        self.folder, self.share, self.max_bytes = folder, share, max_bytes
        self.written = self.dropped = 0
        self._rows: list[Row] = []
        self._bytes = 0
        self._writing: asyncio.Future[None] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="predictions")
        self._random = random.Random()

    def is_sampled(self) -> bool:
        return self._random.random() < self.share

    def add(
        self, labels: Mapping[str, str], seconds: float, inputs: Arrays, outputs: Arrays, request: Any = None, answer: Any = None
    ) -> None:
        """Add a prediction to the log.

        Args:
            labels: model, version and protocol.
            seconds: time that the answer took.
            inputs: of the graph, by name.
            outputs: of the graph, by name.
            request: that of the vertical (/v1), as bytes, text or JSON value; None: there was none.
            answer: that of the vertical (/v1), as JSON values; None: there was none.
        """
        content, kind = _bytes_of(request)
        size = len(content or b"") + sum(
            array.nbytes for array in (*inputs.values(), *outputs.values()) if array.nbytes <= MAX_TENSOR_BYTES
        )
        if self._bytes + size > MAX_PENDING_BYTES:
            self.dropped += 1
            return
        answer_json = json.dumps(answer, ensure_ascii=False, default=str) if answer is not None else None
        row = {
            "time": datetime.now(UTC),
            **labels,
            "milliseconds": 1e3 * seconds,
            "request": content,
            "request_type": kind,
            "answer": answer_json,
        }
        self._rows.append({**row, "inputs": _tensors(inputs), "outputs": _tensors(outputs)})
        self._bytes += size
        if len(self._rows) >= MAX_FILE_ROWS or self._bytes >= MAX_FILE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Start to write the collected predictions in the background."""
        if not self._rows or (self._writing is not None and not self._writing.done()):
            return
        rows, self._rows, self._bytes = self._rows, [], 0
        self._writing = asyncio.get_running_loop().run_in_executor(self._writer, self._write, rows)

    async def run(self, seconds: float) -> None:
        """Write at regular intervals, in an endless loop."""
        while True:
            await asyncio.sleep(seconds)
            self.flush()

    async def close(self) -> None:
        """Wait until everything is written."""
        while self._rows or (self._writing is not None and not self._writing.done()):
            self.flush()
            assert self._writing is not None
            await self._writing
        self._writer.shutdown(wait=False)

    # -- in its thread ------------------------------------------------------------------------------------------------
    def _write(self, rows: list[Row]) -> None:
        by_model: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_model[row["model"]].append(row)
        try:
            for model, part in by_model.items():
                write(part, self.folder / model / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}.parquet")
                self.written += len(part)
            remove_oldest(self.folder, self.max_bytes)
        except OSError as error:
            self.dropped += len(rows)
            log_event("predictions not written", logging.ERROR, reason=str(error), rows=len(rows))


def write(rows: list[Row], path: Path) -> None:
    """Write rows to a Parquet file, which appears only once it is complete."""
    import pyarrow as pa
    from pyarrow import parquet

    tensor = pa.struct([("name", pa.string()), ("datatype", pa.string()), ("shape", pa.list_(pa.int64())), ("data", pa.binary())])
    texts = [(name, pa.string()) for name in ("model", "version", "protocol")]
    schema = pa.schema(
        [
            ("time", pa.timestamp("us", "UTC")),
            *texts,
            ("milliseconds", pa.float32()),
            ("request", pa.binary()),
            ("request_type", pa.string()),
            ("answer", pa.string()),
            ("inputs", pa.list_(tensor)),
            ("outputs", pa.list_(tensor)),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    parquet.write_table(pa.Table.from_pylist(rows, schema), draft, compression="zstd")
    draft.replace(path)


def read(folder: Path, model: str, since: datetime | None = None) -> list[Row]:
    """Read the log of a model.

    Args:
        folder: of the log.
        model: name of the model.
        since: time (with a time zone) before which rows are left out; None: all rows.

    Returns:
        The rows, the oldest first.
    """
    from pyarrow import parquet

    rows = [row for path in sorted((folder / model).glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    return [row for row in rows if since is None or row["time"] >= since]


def array_of(tensor: Mapping[str, Any]) -> np.ndarray | None:
    """A logged tensor as an array; None if it was too large to be logged."""
    return None if tensor["data"] is None else np.frombuffer(tensor["data"], tensor["datatype"]).reshape(tensor["shape"])


def remove_oldest(folder: Path, max_bytes: int) -> None:
    """Remove the oldest files until the rest is within the limit; files of the last minute are kept."""
    files = sorted(((path.stat(), path) for path in folder.glob("*/*.parquet")), key=lambda file: file[0].st_mtime)
    total = sum(stat.st_size for stat, _ in files)
    for stat, path in files:
        if total <= max_bytes or stat.st_mtime > time.time() - 60:
            return
        path.unlink(missing_ok=True)
        total -= stat.st_size


def _tensors(arrays: Arrays) -> list[Row]:
    return [
        {
            "name": name,
            "datatype": array.dtype.str,
            "shape": list(array.shape),
            "data": array.tobytes() if array.nbytes <= MAX_TENSOR_BYTES else None,
        }
        for name, array in arrays.items()
    ]


def _bytes_of(request: Any) -> tuple[bytes | None, str | None]:
    match request:
        case None:
            return None, None
        case bytes():
            return request, "bytes"
        case str():
            return request.encode(), "text"
        case _:
            return json.dumps(request, ensure_ascii=False).encode(), "json"
