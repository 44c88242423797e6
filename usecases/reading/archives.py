"""Archives, which are refused, and gzip files, which are unpacked up to a limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

from tasks.contract.errors import DataError

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
GZIP_MARK = b"\x1f\x8b"
MAX_UNPACKED_BYTES = 4_000_000_000  # of one file; a larger one is a mistake or an attack


def is_archive(path: Path) -> bool:
    return path.suffix.casefold() in ARCHIVES


def refuse_archives(files: Iterable[Path]) -> None:
    """Refuse archives, which users have to unpack themselves.

    Raises:
        DataError: one of the files is an archive.
    """
    archive = next((path for path in files if is_archive(path)), None)
    if archive:
        raise DataError(f"{archive} is an archive. Unpack it and give the folder.")


def read_unpacked(path: Path, limit: int = MAX_UNPACKED_BYTES) -> bytes:
    """The content of a file, unpacked if it starts with the magic number of gzip.

    Args:
        path: the file, with any name.
        limit: largest size of the unpacked content in bytes.

    Raises:
        DataError: the file is damaged, or its content is larger than the limit.
    """
    data = path.read_bytes()
    if not data.startswith(GZIP_MARK):
        return data
    unpacked = bytearray()
    try:
        while data:  # a gzip file may have several members
            unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
            unpacked += unpack.decompress(data, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise DataError(f"{path} unpacks to more than {limit:,} bytes, which is the limit. Give a smaller file.")
            if not unpack.eof:
                raise DataError(f"{path} is a damaged gzip file: it ends too early. Download it again.")
            data = unpack.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise DataError(f"{path} is a damaged gzip file: {error}. Download it again.") from None
    return bytes(unpacked)
