"""The file of the graph in a bundle: plain ONNX, compressed ONNX, or the format of ONNX Runtime."""

from __future__ import annotations

import zlib
from pathlib import Path

from tasks.contract.errors import BundleError

GRAPH = "model.onnx"
PACKED = "model.onnx.gz"  # compressed: in place of model.onnx if it is much smaller, such as for sparse weights
EDGE = "model.ort"  # format of ONNX Runtime for small devices, see `tasks.exporting.edge`
TABLE = "logs/quantization.json"  # one row per recipe that was measured; not part of the content digest
MAX_GRAPH_BYTES = 2_000_000_000  # the limit of protobuf
MAX_COMPRESSION_RATIO = 200  # 99 % zeros give a ratio of 90; a file with a higher ratio was made to exhaust the memory
GZIP = 31  # the value of `wbits` with which zlib expects a gzip header


def stored_graph(folder: Path) -> Path:
    """Path of the graph in a bundle; if there is none, the path of model.onnx, which does not exist."""
    return next((folder / name for name in (GRAPH, PACKED, EDGE) if (folder / name).is_file()), folder / GRAPH)


def read_graph(graph: Path) -> bytes:
    """The bytes of a graph, decompressed.

    Raises:
        BundleError: the compressed file is damaged, or too large once decompressed.
    """
    stored = graph.read_bytes()
    if graph.name != PACKED:
        return stored
    limit, inflater = min(MAX_COMPRESSION_RATIO * len(stored), MAX_GRAPH_BYTES), zlib.decompressobj(GZIP)
    try:
        plain = inflater.decompress(stored, limit + 1)
    except zlib.error as error:
        raise BundleError(f"{graph} cannot be opened because it is damaged: {error}. Export it again.") from error
    if len(plain) > limit:
        raise BundleError(
            f"{graph} has {len(stored):,} bytes and would decompress to more than {limit:,} bytes; graphs of this project do not: not opened."
        )
    if not inflater.eof:
        raise BundleError(f"{graph} cannot be opened because it is cut off after {len(stored):,} bytes. Copy or export it again.")
    return plain
