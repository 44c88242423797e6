"""Archives and compressed files: which are refused, and how far one is unpacked."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

from tasks.contract.errors import DataError

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
GZIP_MARK = b"\x1f\x8b"
MAX_UNPACKED_BYTES = 4_000_000_000  # of one file: beyond that it is a mistake or an attack


def is_archive(path: Path) -> bool:
    return path.suffix.casefold() in ARCHIVES


def refuse_archives(files: Iterable[Path]) -> None:
    """Raises `DataError`: one of the files is an archive, which people have to unpack themselves."""
    archive = next((path for path in files if is_archive(path)), None)
    if archive:
        raise DataError(f"{archive} is an archive. Unpack it and give the folder.")


def read_unpacked(path: Path, limit: int = MAX_UNPACKED_BYTES) -> bytes:
    """The content of a file, unpacked where it begins as gzip does.

    Args:
        path: the file, whatever its name.
        limit: bytes up to which it is unpacked.

    Raises:
        DataError: it is damaged, or larger than the limit.
    """
    data = path.read_bytes()
    if not data.startswith(GZIP_MARK):
        return data
    unpacked = bytearray()
    try:
        while data:  # gzip allows several members, one after the other
            unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
            unpacked += unpack.decompress(data, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise DataError(f"{path} unpacks to more than {limit:,} bytes, which is more than is opened.")
            if not unpack.eof:
                raise DataError(f"{path} is a damaged gzip file: it ends too early. Download it again.")
            data = unpack.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise DataError(f"{path} is a damaged gzip file: {error}. Download it again.") from None
    return bytes(unpacked)
