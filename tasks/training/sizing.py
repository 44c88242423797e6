"""Choice of the batch size: the smallest that fits into memory and is nearly as fast as the fastest."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch

from tasks.training.batches import as_tensors
from tasks.training.device import resolve_precision
from tasks.training.job import Job, write_atomically

SIZES = (32, 64, 128, 256, 512)
STEPS_PER_EPOCH = 8  # at least: with fewer steps an epoch has too few updates
WORTH = 0.9  # share of the best speed that a smaller batch has to reach; smaller batches generalise better
TIMED_STEPS = 3
POLL_SECONDS = 0.1


def resolve_batch_size(job: Job, rank: int) -> int:
    """The batch size of the settings, or the measured one if that is 0; the same for all ranks and all attempts."""
    if job.fit.batch_size:
        return job.fit.batch_size
    known = job.scratch / "batch_size.json"
    if rank == 0 and not known.exists():
        write_atomically(known, measure(job))
    while not known.exists():
        time.sleep(POLL_SECONDS)
    return json.loads(known.read_text())


def measure(job: Job) -> int:
    """Time a few training steps with each batch size, and choose one.

    Raises:
        MemoryError: not even the smallest fits.
    """
    examples = job.usecase.examples(Path(job.data), "train")
    speeds: dict[int, float] = {}
    for size in SIZES:
        if size > SIZES[0] and size * STEPS_PER_EPOCH > len(examples):
            break
        try:
            speeds[size] = _examples_per_second(job, min(size, len(examples)))
        except (torch.OutOfMemoryError, MemoryError):
            break
    if not speeds:
        raise MemoryError(f"not enough memory for a batch of {SIZES[0]}")
    return next(size for size, speed in speeds.items() if speed >= WORTH * max(speeds.values()))


def _examples_per_second(job: Job, size: int) -> float:
    device = torch.device("cuda", 0) if job.accelerator == "gpu" else torch.device("cpu")
    mixed = resolve_precision(job.fit, job.accelerator)
    dtype = torch.float16 if mixed == "16-mixed" else torch.bfloat16
    network = job.usecase.network(Path(job.data) / "assets").to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    examples = job.usecase.examples(Path(job.data), "train")
    batch = {name: tensor.to(device) for name, tensor in as_tensors(examples.batch(np.arange(size))).items()}
    started = 0.0
    for step in range(TIMED_STEPS + 1):
        if step == 1:  # the first chooses kernels
            started = time.monotonic()
        with torch.autocast(device.type, dtype, enabled=mixed != "32-true"):
            loss = job.usecase.loss(network, batch)
        loss.backward()
        float(loss)
    return size * TIMED_STEPS / (time.monotonic() - started)
