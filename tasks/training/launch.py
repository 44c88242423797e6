"""Starts a fit from the flow's process in separate processes, and returns its outcome or raises its root cause."""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.contract import errors
from tasks.contract.usecase import UseCase
from tasks.settings import Fit
from tasks.training.job import SCRATCH, Job, Outcome, write_atomically
from tasks.training.technique import Technique

PROJECT = Path(__file__).parents[2]
LOG = Path(tempfile.gettempdir()) / f"verticals-training-{os.getpid()}.log"
"""What the supervisor and its libraries print; not in the store, whose disk may be the one that is full."""
LOG_LINES = 12
POLL_SECONDS = 0.05
STALLED_SECONDS = float(os.environ.get("VERTICALS_STALLED_SECONDS", "1800"))
NOT_FOR_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_", "TORCHELASTIC_", "PREFECT__FLOW_RUN_ID", "PREFECT__CONTROL_")
# By default glibc returns the memory of activations to the system after each step, and the next step maps it again: 3 % of the time on a
# CPU. Larger blocks are still returned, since keeping blocks of many sizes would fragment the memory until it is full.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
ERRORS = {e.kind: e for e in (errors.OutOfMemory, errors.DiskFull, errors.Infrastructure, errors.TrainingError)}

Row = dict[str, Any]
_supervisor: subprocess.Popen[str] | None = None
_one_at_a_time = threading.Lock()


def fit(
    usecase: UseCase,
    data: Path,
    settings: Fit,
    work: Path,
    start: Path | None = None,
    on_progress: Callable[[Row], None] | None = None,
    technique: Technique | None = None,
) -> Outcome:
    """Fit the network of a use case to prepared data; an attempt that was killed is resumed from its `work` folder.

    It writes `weights.safetensors`, `assets/`, `history.json`, `fit.json` and `logs/` (TensorBoard) to `work`.

    Args:
        usecase: provides the network, the loss and the score.
        data: folder of the prepared data.
        settings: settings of the fit.
        work: a folder for this fit alone.
        start: folder of a checkpoint whose backbone initialises the network.
        on_progress: called with rows such as `{"phase": "training", "epoch": 1, "step": 10, "loss": 0.3, ...}`.
        technique: a change to the fit, such as pruning or distillation.

    Returns:
        The scores and the speed of the fit.

    Raises:
        TrainingError: training failed; the message has the root cause of the rank that failed first, the subclass the kind of the cause.
        UserError: the use case refused its data, or a setting does not fit.
    """
    accelerator, ranks = _device(settings)
    (work / SCRATCH).mkdir(parents=True, exist_ok=True)
    job = Job(
        usecase=usecase,
        data=str(data),
        fit=settings,
        work=str(work),
        start=str(start) if start else None,
        technique=technique,
        ranks=ranks,
        accelerator=accelerator,
        nonce=uuid.uuid4().hex[:12],
    )
    write_atomically(job.spec, job.model_dump(mode="json"))
    with _one_at_a_time:
        try:
            return _run(job, on_progress or (lambda row: None))
        except BaseException as error:
            if not isinstance(error, errors.UserError) or isinstance(error, errors.Infrastructure | errors.Stalled):
                stop()  # cancelled, stalled or lost: no process may remain
            raise


def warm_up() -> None:
    """Start the supervisor, which imports torch and Lightning in the background while the flow prepares data."""
    global _supervisor
    if _supervisor is None or _supervisor.poll() is not None:
        try:
            log = LOG.open("w", encoding="utf-8")
        except OSError:  # it trains without a log
            log = None
        with log or contextlib.nullcontext():
            _supervisor = subprocess.Popen(
                [sys.executable, "-m", "tasks.training.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log or subprocess.DEVNULL,
                text=True,
                cwd=PROJECT,
                env=_environment(),
            )


def stop() -> None:
    """End the supervisor and all its ranks immediately."""
    global _supervisor
    if _supervisor is None:
        return
    if _supervisor.stdin:
        with contextlib.suppress(BrokenPipeError):
            _supervisor.stdin.close()
    try:
        _supervisor.wait(timeout=5)
    except subprocess.TimeoutExpired:
        _supervisor.kill()
        _supervisor.wait()
    _supervisor = None


def _remove_log() -> None:
    LOG.unlink(missing_ok=True)


atexit.register(_remove_log)


atexit.register(stop)


def _device(settings: Fit) -> tuple[str, int]:
    """The accelerator and the number of ranks; torch is imported only if there may be a GPU, since that takes seconds."""
    if settings.accelerator == "cpu" or not (Path("/dev/nvidiactl").exists() or settings.accelerator == "gpu"):
        return "cpu", settings.devices or 1
    from tasks.training.device import resolve_device

    return resolve_device(settings)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_FOR_RANKS)}
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    return KEEP_MEMORY | kept | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def _run(job: Job, on_progress: Callable[[Row], None]) -> Outcome:
    warm_up()
    assert _supervisor is not None and _supervisor.stdin is not None
    try:
        _supervisor.stdin.write(f"{job.spec}\n")
        _supervisor.stdin.flush()
    except BrokenPipeError:
        raise errors.Infrastructure("The training supervisor ended before it received the job. The same command resumes.") from None
    rows = _Tail(job.progress)
    last_progress = time.monotonic()
    while True:
        over = job.over.exists()
        fresh = rows.read()
        for row in fresh:
            on_progress(row)
        last_progress = time.monotonic() if fresh else last_progress
        if over:
            break
        if _supervisor.poll() is not None:
            raise _lost(_supervisor.returncode)
        if time.monotonic() - last_progress > STALLED_SECONDS:
            raise errors.Stalled(f"Training made no progress for {STALLED_SECONDS:.0f} s and was stopped. Logs: {job.logs}")
        time.sleep(POLL_SECONDS)
    if job.result.exists():
        return Outcome.model_validate_json(job.result.read_text())
    raise _typed(json.loads(job.error.read_text()), job)


def _lost(code: int) -> errors.TrainingError:
    """The error for a supervisor that has ended, with the last lines of its log."""
    try:
        lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        lines = []
    said = "".join(f"\n  {line}" for line in lines)
    message = (
        f"The training supervisor was lost (exit code {code}). The same command resumes. Its log {LOG}{':' if said else ' is empty.'}{said}"
    )
    return errors.DiskFull(message) if os.strerror(errno.ENOSPC) in said else errors.Infrastructure(message)


def _typed(error: Row, job: Job) -> errors.UserError:
    if error["kind"] == "user":
        return getattr(errors, error["type"], errors.UserError)(error["message"])
    where = f" Trace: {error['trace']}." if "trace" in error else f" Logs: {job.logs}."
    who = f" on rank {error['rank']}" if "rank" in error else ""
    message = (
        f"Training failed{who}: {error['message']}\n{where.strip()} To repeat it: {sys.executable} -m tasks.training.worker {job.spec}"
    )
    return ERRORS.get(error["kind"], errors.TrainingError)(message)


class _Tail:
    """Reads the complete lines that were appended to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0

    def read(self) -> list[Row]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self.position += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
