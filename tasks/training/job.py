"""The job of a training process, its files and its result."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks.contract.records import Record
from tasks.contract.usecase import AnyUseCase
from tasks.settings import Fit
from tasks.training.technique import AnyTechnique

SCRATCH = ".work"  # folder for temporary files, below the work folder


class Job(Record):
    """One attempt at a fit; the supervisor and its ranks read it as JSON. Its properties are the files of the attempt."""

    usecase: AnyUseCase
    data: str = Field(description="folder of the prepared data")
    fit: Fit
    work: str = Field(description="folder with the progress of earlier attempts, to which the result is written")
    start: str | None = Field(default=None, description="folder of a checkpoint whose backbone initialises the network")
    technique: AnyTechnique | None = Field(default=None, description="a change to the fit, such as pruning or distillation")
    ranks: int = Field(description="number of processes that train together")
    accelerator: str = Field(description="cpu or gpu")
    nonce: str = Field(description="identifier of this attempt; results of other attempts are ignored")

    @property
    def scratch(self) -> Path:
        return Path(self.work) / SCRATCH

    @property
    def spec(self) -> Path:
        return self.scratch / "job.json"

    @property
    def progress(self) -> Path:
        return self.scratch / f"progress-{self.nonce}.jsonl"

    @property
    def result(self) -> Path:
        return self.scratch / f"result-{self.nonce}.json"

    @property
    def error(self) -> Path:
        return self.scratch / f"error-{self.nonce}.json"

    @property
    def over(self) -> Path:
        """Marks the end of the attempt: it is written last, when all ranks have ended and nothing uses the folder any more."""
        return self.scratch / f"over-{self.nonce}"

    @property
    def logs(self) -> Path:
        return self.scratch / "logs" / self.nonce


class Outcome(Record):
    """The result of a fit."""

    scores: dict[str, float] = Field(description="scores of the kept weights on the validation split, in fp32 as they will be served")
    precision_gap: float = Field(description="monitored score in the precision of the training minus the one in fp32")
    epochs: int
    seconds: float = Field(description="wall time of the fit, summed over all attempts")
    examples_per_second: float = Field(description="throughput of the training steps, without validation and start")
    precision: str
    ranks: int
    batch_size: int


def write_atomically(path: Path, value: Any) -> None:
    """Write a JSON file in one step, so that no reader finds a part of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.write_text(json.dumps(value, indent=1), encoding="utf-8")
    draft.replace(path)
