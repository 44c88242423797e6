"""One process of a fit (a rank): it builds the learner, resumes it, fits it, and writes the result."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy
from safetensors.torch import load_file, save_file

from tasks.contract.capabilities import Calibrated
from tasks.contract.cores import cores
from tasks.contract.errors import DataError, TrainingError, UserError
from tasks.training import checkpoints
from tasks.training.batches import Batches
from tasks.training.device import resolve_precision
from tasks.training.job import Job, Outcome, write_atomically
from tasks.training.learner import REPORT_SECONDS, Learner, not_a_number
from tasks.training.sizing import resolve_batch_size

COLLECTIVE_TIMEOUT = timedelta(hours=6)  # rank 0 may validate for long while the others wait


def main(spec: str) -> None:
    """The entry point of a rank, in a process that the supervisor has forked."""
    _end_with_supervisor()
    job = Job.model_validate_json(Path(spec).read_text(encoding="utf-8"))
    rank = int(os.environ.get("RANK", "0"))
    try:
        fit(job, rank)
    except BaseException as error:
        trace = job.logs / f"error-rank-{rank}.txt"
        trace.parent.mkdir(parents=True, exist_ok=True)
        trace.write_text(traceback.format_exc())
        write_atomically(job.logs / f"error-rank-{rank}.json", {**describe(error), "trace": str(trace), "rank": rank, "time": time.time()})
        sys.exit(1)


def describe(error: BaseException) -> dict[str, str]:
    """The kind, type and message of an error, for the supervisor."""
    if isinstance(error, UserError):
        return {"kind": "user", "type": type(error).__name__, "message": str(error)}
    text = f"{type(error).__name__}: {error}"
    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)
    no_space = (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or "PytorchStreamWriter failed" in str(error)
    return {"kind": "memory" if out_of_memory else "disk" if no_space else "code", "type": type(error).__name__, "message": text}


def fit(job: Job, rank: int) -> None:
    """Run this rank's part of a job in the calling process; rank 0 writes the result."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(max(1, job.fit.threads // job.ranks) if job.fit.threads else cores(job.ranks))
    # this part of deterministic mode only helps to find bugs, and takes 5 % of the time
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    report = progress_writer(job.progress) if rank == 0 else _silent
    report("starting", force=True)
    settings = job.fit.model_copy(update={"batch_size": resolve_batch_size(job, rank)})
    learner = build(job, settings, rank, report)
    if not learner.is_finished():
        _trainer(job, settings).fit(learner, train_dataloaders=learner.batches)
    if rank == 0:
        report("finishing", force=True, **learner.position())
        write_atomically(job.result, finish(job, learner, settings).model_dump(mode="json"))


def build(job: Job, fit: Any, rank: int, report: Callable[..., None]) -> Learner:
    """Build the learner of a job, and resume an earlier attempt if there is one.

    Args:
        job: the job.
        fit: its settings, with the batch size resolved.
        rank: this process, from 0.
        report: called with the phase and further fields of a row of progress.

    Returns:
        The learner, ready to fit.

    Raises:
        DataError: there are fewer than two training examples, or no weight of the backbone fits.
    """
    data = Path(job.data)
    examples = job.usecase.examples(data, "train")
    if len(examples) < 2:
        raise DataError(f"There are {len(examples)} examples to train on; at least 2 are needed.")
    batches = Batches(examples, fit.batch_size, fit.epochs, fit.seed, rank, job.ranks)
    torch.manual_seed(fit.seed)
    network = job.usecase.network(data / "assets")
    if job.start:
        load_backbone(network, Path(job.start))
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    learner = Learner(job.usecase, network, batches, data, fit, job.scratch / "checkpoints", report)
    if job.technique:
        job.technique.before(learner)
    learner.begin_average()
    state = checkpoints.newest(learner.folder)
    if state is not None:
        learner.resume(state)
    return learner


def load_backbone(network: torch.nn.Module, checkpoint: Path) -> None:
    """Initialise the backbone with the weights of another network; weights of other names or shapes are skipped.

    Raises:
        DataError: nothing fits.
    """
    saved = load_file(checkpoint / "weights.safetensors")
    own = network.state_dict()
    fitting = {
        name: value for name, value in saved.items() if name.startswith("backbone.") and own.get(name, torch.empty(0)).shape == value.shape
    }
    if not fitting:
        raise DataError(f"No weight of the checkpoint {checkpoint} fits the network: its backbone has other settings.")
    network.load_state_dict(own | fitting)


def _trainer(job: Job, fit: Any) -> pl.Trainer:
    precision = resolve_precision(fit, job.accelerator)
    strategy = DDPStrategy(process_group_backend="nccl" if job.accelerator == "gpu" else "gloo", timeout=COLLECTIVE_TIMEOUT)
    return pl.Trainer(
        accelerator=job.accelerator,
        devices=job.ranks,
        strategy=strategy if job.ranks > 1 else "auto",
        precision=precision,
        plugins=[TorchElasticEnvironment()] if job.ranks > 1 else None,
        max_epochs=1,  # one long epoch: see learner.py
        accumulate_grad_batches=fit.accumulate,
        gradient_clip_val=fit.gradient_clip or None,
        deterministic="warn" if job.ranks == 1 else False,
        logger=TensorBoardLogger(job.work, name=None, version="logs"),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        barebones=False,
        log_every_n_steps=1_000_000_000,  # the learner logs
        callbacks=[ExitOnSigterm()],
    )


class ExitOnSigterm(pl.Callback):
    """Exits immediately on SIGTERM. Lightning would save a checkpoint first, which can deadlock; ours are saved periodically."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def finish(job: Job, learner: Learner, fit: Any) -> Outcome:
    """Calibrate and score the final network, and write the checkpoint to the work folder.

    Args:
        job: the job.
        learner: after the fit.
        fit: settings of the fit, with the batch size resolved.

    Returns:
        The outcome of the fit.
    """
    work, data, usecase = Path(job.work), Path(job.data), job.usecase
    mixed = learner.history[-1][usecase.monitor] if learner.history else float("nan")
    seconds = learner.seconds()
    network = learner.final()
    if job.technique:
        job.technique.after(network)
    if fit.patience:
        mixed = learner.best[0]
    from tasks.training.predicting import torch_predict

    predict = torch_predict(usecase, network)
    if isinstance(usecase, Calibrated):
        with torch.no_grad():
            usecase.calibrate(network, predict, data)
    scores = usecase.score(predict, data, "validation")
    if math.isnan(scores[usecase.monitor]):
        raise TrainingError(not_a_number(usecase.monitor, fit))
    gap = mixed - scores[usecase.monitor]
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, work / "weights.safetensors")
    shutil.copytree(data / "assets", work / "assets", dirs_exist_ok=True)
    precision = resolve_precision(fit, job.accelerator)
    (work / "history.json").write_text(json.dumps(learner.history, indent=1))
    resolved = {**fit.model_dump(mode="json"), "precision": precision, "accelerator": job.accelerator, "devices": job.ranks}
    (work / "fit.json").write_text(json.dumps({**resolved, "precision_gap": round(gap, 6)}, indent=1))
    return Outcome(
        scores=scores,
        precision_gap=gap,
        epochs=int(learner.history[-1]["epoch"]) if learner.history else 0,
        seconds=seconds,
        examples_per_second=learner.speed(),
        precision=precision,
        ranks=job.ranks,
        batch_size=learner.batches.batch_size,
    )


def progress_writer(path: Path) -> Callable[..., None]:
    """A function that appends rows of progress to a file, at most a few per second unless forced."""
    last = 0.0

    def report(phase: str, force: bool = False, **facts: Any) -> None:
        nonlocal last
        if force or time.monotonic() - last >= REPORT_SECONDS:
            last = time.monotonic()
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"phase": phase, **facts}) + "\n")

    return report


def _silent(phase: str, force: bool = False, **facts: Any) -> None:
    return


def _end_with_supervisor() -> None:
    """Exit when the supervisor ends. Its fork server would not notice, since every rank keeps the pipe open that it listens to."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        threading.Thread(target=lambda: (supervisor.join(), os._exit(1)), daemon=True).start()
