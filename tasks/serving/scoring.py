"""Batch scoring without a server: reads requests from files or lines, and writes one line of JSON per request, an answer or an error."""

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
"""The name of a request, and a function that reads it."""
AHEAD = 2  # batches that are read while one is computed


@dataclass(frozen=True)
class ScoringSummary:
    """Counts of a scoring run, and its duration."""

    answered: int
    refused: int
    seconds: float

    def __str__(self) -> str:
        total = self.answered + self.refused
        refused = f", {self.refused:,} failed" if self.refused else ""
        return f"{self.answered:,} of {total:,} answered{refused}; {total / max(self.seconds, 1e-9):,.0f} requests per second"


def find_requests(source: Path, bundle: Bundle) -> list[Request]:
    """One request per file of a folder or per line of a .jsonl or .txt file, or the request in a single file.

    Raises:
        DataError: there is no request.
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
        raise DataError(f"{source} does not exist: a folder, a .jsonl or .txt file, or a file with a request was expected.")
    if not found:
        raise DataError(f"There is no request in {source}.")
    return found


def score(
    bundle: Bundle, requests: Sequence[Request], out: Path, batch: int, advance: Callable[[int], object] = lambda count: None
) -> ScoringSummary:
    """Write one line of JSON per request, in order: its name, and the answer or the error. The file appears once it is complete.

    Args:
        bundle: the model that answers.
        requests: as `find_requests` returns them.
        out: file to write; an existing file is replaced.
        batch: requests per batch.
        advance: called after each batch with its number of requests.

    Returns:
        How many requests were answered and refused, and the seconds that it took.
    """
    started, counts = time.monotonic(), [0, 0]
    draft = out.with_name(f".{out.name}.draft")
    out.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("w", encoding="utf-8") as file:
        for lines in score_batches(bundle, requests, batch):
            for line in lines:
                counts["error" in line] += 1
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            advance(len(lines))
    draft.replace(out)
    return ScoringSummary(counts[0], counts[1], time.monotonic() - started)


def score_batches(bundle: Bundle, requests: Iterable[Request], batch: int) -> Iterator[list[dict[str, Any]]]:
    """Score requests batch by batch; the next batches are read while one is computed.

    Args:
        bundle: the model that answers.
        requests: as `find_requests` returns them.
        batch: requests per batch.

    Yields:
        The lines of each batch.
    """
    parts = iter(lambda left=iter(requests): list(islice(left, batch)), [])
    with ThreadPoolExecutor(1) as reader:
        waiting = [reader.submit(_read, part) for part in islice(parts, AHEAD)]
        while waiting:
            part = waiting.pop(0).result()
            waiting += [reader.submit(_read, following) for following in islice(parts, 1)]
            yield _answered(bundle, part)


def _read(part: Sequence[Request]) -> list[tuple[str, Any]]:
    """The requests by name; in place of one that cannot be read, its error."""
    found = []
    for name, read in part:
        try:
            found.append((name, read()))
        except BundleError as error:
            found.append((name, error))
    return found


def _answered(bundle: Bundle, part: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    requests = [request for _, request in part if not isinstance(request, BundleError)]
    try:
        answers = iter(bundle.answer(requests) if requests else [])
    except Exception as error:  # of any kind, caused by one of the requests: run each alone, to answer the others
        if len(part) == 1:
            message = str(error) if isinstance(error, UserError) else f"The model failed: {type(error).__name__}: {error}"
            return [{"request": part[0][0], "error": message}]
        return [line for one in part for line in _answered(bundle, [one])]
    return [
        {"request": name, "error": str(request)} if isinstance(request, BundleError) else {"request": name, **next(answers)}
        for name, request in part
    ]


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text.") from None
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
            raise BundleError(f"The line is not valid JSON: {error}.") from None

    return parse
