"""The supervisor: a process between the flow and the ranks, which stays alive so that the next fit starts quickly.

Without arguments it reads the paths of job files from standard input, one per line, and ends when its input ends: so
neither the supervisor nor a rank outlives the flow, even if the flow is killed. With a path as its argument it runs
that job once, to repeat a failure.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from tasks.training.job import Job, write_atomically

IDLE_SECONDS = 15 * 60
PRELOADED = ["tasks.training.rank"]


def main() -> None:
    multiprocessing.set_forkserver_preload(PRELOADED)
    if len(sys.argv) > 1:
        sys.exit(run(Path(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the flow, which then closes our input
    _warm_up()
    jobs: queue.Queue[Path] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    while True:
        try:
            run(jobs.get(timeout=IDLE_SECONDS))
        except queue.Empty:
            return


def _read_jobs(jobs: queue.Queue[Path]) -> None:
    for line in sys.stdin:
        jobs.put(Path(line.strip()))
    os._exit(0)  # the ranks notice it and exit, and with the last of them the fork server


def _warm_up() -> None:
    """Start the fork server, which imports torch and Lightning while the flow prepares its data."""
    from multiprocessing import forkserver

    forkserver.ensure_running()


def run(spec: Path) -> int:
    """Run one job on its ranks. It always leaves a file with a result or with an error.

    Returns:
        The exit code: 0 if there is a result, otherwise 1.
    """
    job = Job.model_validate_json(spec.read_text(encoding="utf-8"))
    try:
        _launch(job, spec)
    except BaseException as error:
        write_atomically(job.error, _root_cause(job, error))
    if not job.result.exists() and not job.error.exists():
        write_atomically(job.error, {"kind": "infrastructure", "message": "The training processes ended without a result."})
    succeeded = job.result.exists()
    job.over.touch()
    return 0 if succeeded else 1


def _launch(job: Job, spec: Path) -> None:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from tasks.training import rank

    job.logs.mkdir(parents=True, exist_ok=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=job.ranks,
        run_id=job.nonce,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,  # the flow's task owns retries
        monitor_interval=0.1,
        start_method="forkserver",
        logs_specs=DefaultLogsSpecs(log_dir=str(job.logs), redirects=Std.ALL),
    )
    elastic_launch(config, rank.main)(str(spec))


def _root_cause(job: Job, error: BaseException) -> dict[str, Any]:
    """The error of the rank that failed first; a rank that was killed has left none."""
    reported = [json.loads(path.read_text()) for path in job.logs.glob("error-rank-*.json")]
    if reported:
        # when one rank ends, the others fail, too, with an error of the connection
        return min(reported, key=lambda e: (e["kind"] == "code" and "Connection" in e["message"], e["time"]))
    return {"kind": "infrastructure", "message": f"A training process was lost: {_how_it_ended(error)}."}


def _how_it_ended(error: BaseException) -> str:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not isinstance(error, ChildFailedError):
        return f"{type(error).__name__}: {error}"
    rank, failure = error.get_first_failure()
    return f"rank {rank} ended with exit code {failure.exitcode}" + (f" ({failure.signal_name()})" if failure.exitcode < 0 else "")


if __name__ == "__main__":
    main()
