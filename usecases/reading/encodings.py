"""Text files in any encoding: byte order marks, UTF-8, older encodings, any line ends."""

from __future__ import annotations

import codecs
import re
import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
UTF8 = ("utf-8", "utf-8-sig")
OLD = ("gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp874")
CHUNK = 1 << 20
GUESSED_BYTES = 1 << 17
HEAD_LINES, HEAD_CHARACTERS = 1000, 200_000
DAMAGED = 0.05  # share of unreadable characters among those beyond ASCII up to which a file is damaged UTF-8
WESTERN = 0.15  # share of bytes beyond ASCII, in lines that have any, up to which the text is accented Latin
# Czech, Slovak and Polish words in cp1250 that are read as cp1252: a grave vowel where no western language has one (čas becomes èas,
# dům becomes dùm), or a symbol in the middle of a word (był becomes by³)
CENTRAL_EUROPEAN = re.compile(r"\b[èÈ]\w|[èø][aeiouyáéíóúý]|[ìù]\w|(?<=[^\W\d_])[¹³¿](?=[^\W\d_])")
WESTERN_EUROPEAN = re.compile(r"[àåÀÅ]|ò\w")  # in cp1250 ŕ, ĺ, and ň before a letter, which are rare
CENTRAL_EUROPEAN_SHARE = 0.1  # share of such words among the characters beyond ASCII from which the text is cp1250


class TextFile:
    """A text file that is read line by line; only `text` reads it as a whole.

    Args:
        path: the file.
        asked: the encoding of `--usecase.encoding`; empty: it is detected.
        findings: an encoding other than UTF-8 and unreadable characters are added to them.

    Raises:
        DataError: the file is not in the encoding of `asked`.
    """

    def __init__(self, path: Path, asked: str, findings: Findings) -> None:
        self.path = path
        facts = path.stat()
        self.encoding, feeds, nuls, unreadable = _looked_at(path.resolve(), asked, facts.st_size, facts.st_ctime_ns)
        self.line_end = "\n" if feeds else "\r"
        self._is_plain = self.encoding in UTF8 and not nuls and bool(feeds)
        if unreadable and asked and unreadable > DAMAGED * facts.st_size:
            raise DataError(f"{path} is not in the encoding {asked} (--usecase.encoding). Leave it empty to have it detected.")
        if unreadable:
            findings.note("unreadable characters", f"{path.name}: {unreadable} in {self.encoding}", "replaced by \ufffd", unreadable)
        if nuls:
            findings.note("NUL characters", f"{path.name}: {nuls}", "removed", nuls)
        if not asked and self.encoding not in UTF8:
            findings.note(
                "file in another encoding than UTF-8", f"{path.name}: read as {self.encoding}", "set --usecase.encoding if it is another"
            )

    def lines(self) -> Iterator[str]:
        """The lines without their ends. In a file with line feeds, a carriage return within a line becomes a space."""
        with self._opened() as file:
            for line in file:
                yield line.rstrip("\r\n").replace("\r", " ").replace("\0", "")

    def numbered(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers from 1."""
        return ((number, line) for number, line in enumerate(self.lines(), start=1) if line.strip())

    def text(self) -> str:
        """The whole text, with unchanged line ends."""
        return self.path.read_bytes().decode(self.encoding, errors="replace").replace("\0", "")

    @cached_property
    def head(self) -> list[str]:
        """The first lines, from which the layout is detected."""
        lines, characters = [], 0
        for line in self.lines():
            lines.append(line)
            characters += len(line)
            if len(lines) >= HEAD_LINES or characters >= HEAD_CHARACTERS:
                break
        return lines

    @property
    def is_one_line(self) -> bool:
        return len([line for line in self.head if line.strip()]) == 1 and sum(1 for _ in self.numbered()) == 1

    def as_utf8(self) -> Path:
        """A file in UTF-8 with line feeds: the file itself, or a temporary copy, which is removed with this object."""
        return self.path if self._is_plain else Path(self._copy.name)

    @cached_property
    def _copy(self) -> IO[str]:
        copy = tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", suffix=self.path.suffix)  # noqa: SIM115
        copy.writelines(f"{line}\n" for line in self.lines())
        copy.flush()
        return copy

    def _opened(self) -> IO[str]:
        return self.path.open(encoding=self.encoding, errors="replace", newline=self.line_end)


@lru_cache(maxsize=256)  # a file is opened to detect its layout, and again to be read
def _looked_at(path: Path, asked: str, size: int, time: int) -> tuple[str, int, int, int]:
    """The encoding, and the numbers of line feeds, of NULs and of unreadable characters."""
    encoding = asked or _encoding(path)
    feeds = nuls = unreadable = 0
    for piece in _decoded(path, encoding):
        feeds += piece.count("\n")
        nuls += piece.count("\0")
        unreadable += 0 if piece.isascii() else piece.count("\ufffd")
    return encoding, feeds, nuls, unreadable


def _decoded(path: Path, encoding: str) -> Iterator[str]:
    """The text in pieces, with unreadable bytes as U+FFFD."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    except LookupError:
        raise DataError(
            f"--usecase.encoding {encoding}: there is no such encoding. Set an encoding such as utf-8, latin-1 or gb18030."
        ) from None
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(1024)
    marked = marked_encoding(start)
    if marked:
        return marked
    if start.count(0) > len(start) // 5:  # ASCII in two bytes each
        return "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"
    foreign = unreadable = 0
    for piece in _decoded(path, "utf-8"):
        if not piece.isascii():
            foreign += len(piece) - len(piece.encode("ascii", errors="ignore"))
            unreadable += piece.count("\ufffd")
    if unreadable <= DAMAGED * foreign:
        return "utf-8"
    with path.open("rb") as file:
        return guessed(file)


def marked_encoding(start: bytes) -> str | None:
    """The encoding of the byte order mark at the start of a file; None if there is no mark."""
    return next((encoding for mark, encoding in MARKS if start.startswith(mark)), None)


def guessed(lines: Iterable[bytes]) -> str:
    """Detect the encoding of lines that are not UTF-8: few bytes beyond ASCII are accented letters, many are another script."""
    from charset_normalizer import from_bytes

    sample, best = bytearray(), None
    for line in lines:
        if not line.isascii():
            sample += line[:4096]
        if len(sample) > GUESSED_BYTES:
            break
    if sum(byte > 127 for byte in sample) > WESTERN * len(sample):
        best = from_bytes(bytes(sample), cp_isolation=list(OLD)).best()
    return best.encoding if best is not None else _accented(bytes(sample))


def _accented(sample: bytes) -> str:
    """The encoding of text in accented Latin: cp1250 if its words look Central European, else cp1252 or latin-1."""
    western = sample.decode("cp1252", errors="replace")
    foreign = len(western) - len(western.encode("ascii", errors="ignore"))
    central = len(CENTRAL_EUROPEAN.findall(western)) - len(WESTERN_EUROPEAN.findall(western))
    if central > CENTRAL_EUROPEAN_SHARE * foreign and "\ufffd" not in sample.decode("cp1250", errors="replace"):
        return "cp1250"
    return "latin-1" if "\ufffd" in western else "cp1252"
