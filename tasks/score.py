"""Answer many requests from a released bundle, without a server."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from tasks.contract.artifacts import Release
from tasks.reporting.terminal import step
from tasks.serving.bundle import open_bundle
from tasks.serving.scoring import ScoringSummary
from tasks.serving.scoring import find_requests as find
from tasks.serving.scoring import score as score_all


@task(persist_result=False)
def score(released: Release, source: Path, out: Path, batch: int = 32, threads: int = 0) -> ScoringSummary:
    """Write one line of JSON to `out` per file of a folder, or per line of a .jsonl or .txt file.

    Args:
        released: the release whose bundle answers.
        source: folder or file with the requests.
        out: file to write, such as answers.jsonl.
        batch: requests per batch.
        threads: CPU threads; 0: all cores that are available to this process.

    Returns:
        How many requests were answered and refused, and the seconds that it took.

    Raises:
        DataError: there is no request.
    """
    with step("score") as progress:
        bundle = open_bundle(released.bundle, threads=threads)
        requests, done = find(source, bundle), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress.say(f"{done:,} of {len(requests):,}")

        scored = score_all(bundle, requests, out, batch, advance)
        progress.detail = str(scored)
    return scored
