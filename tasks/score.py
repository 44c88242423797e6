"""Answer many requests from a released bundle, without a server."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from tasks.contract.artifacts import Release
from tasks.reporting.terminal import step
from tasks.serving.bundle import open_bundle
from tasks.serving.scoring import Scored
from tasks.serving.scoring import find_requests as find
from tasks.serving.scoring import score as score_all


@task(persist_result=False)
def score(released: Release, source: Path, out: Path, batch: int = 32, threads: int = 0) -> Scored:
    """A line of JSON in `out` for each file of a folder, or each line of a .jsonl or .txt file.

    Args:
        released: whose bundle answers.
        source: of the requests.
        out: the file to write, such as answers.jsonl.
        batch: requests that are computed together.
        threads: CPU threads; 0: the cores that are really available.

    Raises:
        DataError: there is no request.
    """
    with step("score") as seen:
        bundle = open_bundle(released.bundle, threads=threads)
        requests, done = find(source, bundle), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            seen.say(f"{done:,} of {len(requests):,}")

        scored = score_all(bundle, requests, out, batch, advance)
        seen.detail = str(scored)
    return scored
