"""The file of a bundle's graph: plain, packed, or in ONNX Runtime's own format."""

from __future__ import annotations

import zlib
from pathlib import Path

from tasks.contract.errors import BundleError

GRAPH = "model.onnx"
PACKED = "model.onnx.gz"  # in its place where that is much smaller, such as with many weights of zero
EDGE = "model.ort"  # for small devices, see `tasks.exporting.edge`
TABLE = "logs/quantization.json"  # the recipes that were measured, a row each; not part of the content
LARGEST_GRAPH = 2_000_000_000  # bytes: what protobuf can hold
MOST_TIMES_LARGER = 200  # than its packed file: 99 % zeros make 90, and what grows further was made to fill the memory
GZIP = 31  # zlib's word for its own format with gzip's header


def stored_graph(folder: Path) -> Path:
    """The file of a bundle's graph; where there is none, the one that should be there."""
    return next((folder / name for name in (GRAPH, PACKED, EDGE) if (folder / name).is_file()), folder / GRAPH)


def read_graph(graph: Path) -> bytes:
    """What a graph's file holds, unpacked.

    Raises:
        BundleError: the packed file is damaged, or would fill the memory.
    """
    stored = graph.read_bytes()
    if graph.name != PACKED:
        return stored
    most, inflater = min(MOST_TIMES_LARGER * len(stored), LARGEST_GRAPH), zlib.decompressobj(GZIP)
    try:
        plain = inflater.decompress(stored, most + 1)
    except zlib.error as error:
        raise BundleError(f"{graph} cannot be opened, it is damaged: {error}. Export it again.") from error
    if len(plain) > most:
        raise BundleError(f"{graph} would grow from {len(stored):,} to more than {most:,} bytes; no graph does: not opened.")
    if not inflater.eof:
        raise BundleError(f"{graph} cannot be opened, it is cut off after {len(stored):,} bytes. Copy or export it again.")
    return plain
