"""Many requests at once, without a server: files or lines in, lines of JSON out. What cannot be answered is said in its place."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.contract.errors import BundleError, DataError, UserError
from tasks.serving.bundle import Bundle

Request = tuple[str, Callable[[], Any]]
"""What it is called, and how it is read."""
AHEAD = 2  # batches that are read and encoded while one is computed


@dataclass(frozen=True)
class Scored:
    """How it went."""

    answered: int
    refused: int
    seconds: float

    def __str__(self) -> str:
        total = self.answered + self.refused
        refused = f", {self.refused:,} could not be answered" if self.refused else ""
        return f"{self.answered:,} of {total:,} answered{refused}; {total / max(self.seconds, 1e-9):,.0f} a second"


def find_requests(source: Path, bundle: Bundle) -> list[Request]:
    """A request for each file of a folder, each line of a .jsonl or .txt file, or for the one file.

    Raises:
        DataError: there are none.
    """
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
        found: list[Request] = [(str(path.relative_to(source)), _reader(bundle, path)) for path in paths]
    elif source.suffix.lower() in (".jsonl", ".ndjson"):
        found = [(f"{source.name} line {number}", _parser(line)) for number, line in _lines(source)]
    elif source.suffix.lower() == ".txt":
        found = [(f"{source.name} line {number}", _constant(line)) for number, line in _lines(source)]
    elif source.is_file():
        found = [(source.name, _reader(bundle, source))]
    else:
        raise DataError(f"There is nothing at {source}: a folder, a .jsonl or .txt file, or a file with a request was expected.")
    if not found:
        raise DataError(f"There is no request in {source}.")
    return found


def score(
    bundle: Bundle, requests: Sequence[Request], out: Path, batch: int, advance: Callable[[int], object] = lambda count: None
) -> Scored:
    """Write a line of JSON for each request, in their order: its name, and the answer or the error. The file is there once all is.

    Args:
        bundle: what answers.
        requests: as `find_requests` finds them.
        out: the file to write; one that is there is replaced.
        batch: requests that are computed together.
        advance: told how many were done since.
    """
    started, counts = time.monotonic(), [0, 0]
    draft = out.with_name(f".{out.name}.draft")
    out.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("w", encoding="utf-8") as file:
        for lines in answers(bundle, requests, batch):
            for line in lines:
                counts["error" in line] += 1
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            advance(len(lines))
    draft.replace(out)
    return Scored(counts[0], counts[1], time.monotonic() - started)


def answers(bundle: Bundle, requests: Iterable[Request], batch: int) -> Iterator[list[dict[str, Any]]]:
    """The lines of each batch; while one is computed the next are read."""
    parts = iter(lambda left=iter(requests): list(islice(left, batch)), [])
    with ThreadPoolExecutor(1) as reader:
        waiting = [reader.submit(_read, part) for part in islice(parts, AHEAD)]
        while waiting:
            part = waiting.pop(0).result()
            waiting += [reader.submit(_read, following) for following in islice(parts, 1)]
            yield _answered(bundle, part)


def _read(part: Sequence[Request]) -> list[tuple[str, Any]]:
    """The requests, or in the place of one the error."""
    found = []
    for name, read in part:
        try:
            found.append((name, read()))
        except BundleError as error:
            found.append((name, error))
    return found


def _answered(bundle: Bundle, part: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    asked = [request for _, request in part if not isinstance(request, BundleError)]
    try:
        told = iter(bundle.answer(asked) if asked else [])
    except Exception as error:  # of one of them, whatever it is: each by itself tells which, and the others are not lost
        if len(part) == 1:
            words = str(error) if isinstance(error, UserError) else f"The model failed: {type(error).__name__}: {error}"
            return [{"request": part[0][0], "error": words}]
        return [line for one in part for line in _answered(bundle, [one])]
    return [
        {"request": name, "error": str(request)} if isinstance(request, BundleError) else {"request": name, **next(told)}
        for name, request in part
    ]


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8.") from None
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _reader(bundle: Bundle, path: Path) -> Callable[[], Any]:
    return lambda: bundle.codec.read(str(path))


def _constant(line: str) -> Callable[[], Any]:
    return lambda: line


def _parser(line: str) -> Callable[[], Any]:
    def parse() -> Any:
        try:
            return json.loads(line)
        except json.JSONDecodeError as error:
            raise BundleError(f"The line is no JSON: {error}.") from None

    return parse
