"""The log of predictions: a sample of what was asked and answered, in parquet, for those who watch a model's life.

Only where a folder is named: it holds what people sent. A row is one request:

time, model, version, protocol, milliseconds, `request` (bytes; of /v1 alone) and `request_type` (bytes, text or json), `answer` (JSON; of /v1
alone), and the graph's `inputs` and `outputs`, each a list of {name, datatype, shape, data}. Files are `FOLDER/MODEL/TIME-PROCESS.parquet`.
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
from tasks.serving.logs import note

Row = dict[str, Any]
MOST_ROWS, MOST_BYTES = 1000, 16_000_000  # of a file
MOST_WAITING = 4 * MOST_BYTES  # bytes that wait to be written; what comes then is dropped and counted
LARGEST_TENSOR = 4_000_000  # bytes; of a larger one only the shape is kept


class PredictionLog:
    """Takes predictions in one event loop, writes them in a thread of its own."""

    def __init__(self, folder: Path, share: float, most_bytes: int) -> None:
        """Args:
        folder: made where there is none.
        share: of the predictions that are kept, by chance.
        most_bytes: of all files; the oldest are removed first.
        """
        self.folder, self.share, self.most_bytes = folder, share, most_bytes
        self.written = self.dropped = 0
        self._rows: list[Row] = []
        self._bytes = 0
        self._writing: asyncio.Future[None] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="predictions")
        self._random = random.Random()

    def wanted(self) -> bool:
        return self._random.random() < self.share

    def take(
        self, which: Mapping[str, str], seconds: float, inputs: Arrays, outputs: Arrays, request: Any = None, answer: Any = None
    ) -> None:
        """Args:
        which: model, version and protocol.
        seconds: that the answer took.
        inputs, outputs: of the graph.
        request, answer: in the vertical's words, where they were.
        """
        sent, kind = _bytes_of(request)
        size = len(sent or b"") + sum(array.nbytes for array in (*inputs.values(), *outputs.values()) if array.nbytes <= LARGEST_TENSOR)
        if self._bytes + size > MOST_WAITING:
            self.dropped += 1
            return
        told = json.dumps(answer, ensure_ascii=False, default=str) if answer is not None else None
        row = {"time": datetime.now(UTC), **which, "milliseconds": 1e3 * seconds, "request": sent, "request_type": kind, "answer": told}
        self._rows.append({**row, "inputs": _tensors(inputs), "outputs": _tensors(outputs)})
        self._bytes += size
        if len(self._rows) >= MOST_ROWS or self._bytes >= MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what has come so far, behind."""
        if not self._rows or (self._writing is not None and not self._writing.done()):
            return
        rows, self._rows, self._bytes = self._rows, [], 0
        self._writing = asyncio.get_running_loop().run_in_executor(self._writer, self._write, rows)

    async def run(self, seconds: float) -> None:
        """Write every so often; for ever."""
        while True:
            await asyncio.sleep(seconds)
            self.flush()

    async def close(self) -> None:
        """Once all is written."""
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
            for model, some in by_model.items():
                write(some, self.folder / model / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}.parquet")
                self.written += len(some)
            remove_oldest(self.folder, self.most_bytes)
        except OSError as error:
            self.dropped += len(rows)
            note("predictions not written", logging.ERROR, reason=str(error), rows=len(rows))


def write(rows: list[Row], path: Path) -> None:
    """All of it or nothing."""
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
    """The rows of a model, oldest first, those that were logged before `since` aside."""
    from pyarrow import parquet

    rows = [row for path in sorted((folder / model).glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    return [row for row in rows if since is None or row["time"] >= since]


def array_of(tensor: Mapping[str, Any]) -> np.ndarray | None:
    """A logged tensor; None: it was too large to be kept."""
    return None if tensor["data"] is None else np.frombuffer(tensor["data"], tensor["datatype"]).reshape(tensor["shape"])


def remove_oldest(folder: Path, most_bytes: int) -> None:
    """Until the rest is no larger; what was written within the last minute stays."""
    files = sorted(((path.stat(), path) for path in folder.glob("*/*.parquet")), key=lambda file: file[0].st_mtime)
    total = sum(stat.st_size for stat, _ in files)
    for stat, path in files:
        if total <= most_bytes or stat.st_mtime > time.time() - 60:
            return
        path.unlink(missing_ok=True)
        total -= stat.st_size


def _tensors(arrays: Arrays) -> list[Row]:
    return [
        {
            "name": name,
            "datatype": array.dtype.str,
            "shape": list(array.shape),
            "data": array.tobytes() if array.nbytes <= LARGEST_TENSOR else None,
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
