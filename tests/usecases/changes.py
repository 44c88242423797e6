"""Which files behind a use case's data its digest does not notice."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.contract.usecase import UseCase


def unnoticed_changes(usecase: UseCase, folder: Path) -> list[str]:
    """The files below a folder whose content can be changed, with their size and times kept, without a change of the digest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert files
    kept, before = [], usecase.data_digest()
    for path in files:
        content, status = path.read_bytes(), path.stat()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        if usecase.data_digest() == before:
            kept.append(str(path.relative_to(folder)))
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return kept
