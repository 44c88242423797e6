"""What a training process is told, and what comes back."""

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

SCRATCH = ".work"  # in the work folder: what is not to be kept


class Job(Record):
    """One attempt at one fit, as the JSON that the supervisor and its ranks read."""

    usecase: AnyUseCase
    data: str = Field(description="folder of the prepared data set")
    fit: Fit
    work: str = Field(description="folder that keeps the progress of earlier attempts and takes the result")
    start: str | None = Field(default=None, description="folder of the checkpoint whose backbone to start from")
    technique: AnyTechnique | None = Field(default=None, description="what is done otherwise than in a plain fit")
    ranks: int = Field(description="processes that train together")
    accelerator: str = Field(description="cpu or gpu")
    nonce: str = Field(description="of this attempt: a result of another one does not count")

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
        """Written last: the ranks are gone and nobody looks at the folder any more."""
        return self.scratch / f"over-{self.nonce}"

    @property
    def logs(self) -> Path:
        return self.scratch / "logs" / self.nonce


class Outcome(Record):
    """A finished fit."""

    scores: dict[str, float] = Field(description="of the kept weights on the validation split, in fp32 as they will be served")
    precision_gap: float = Field(description="the monitored score in the training's precision minus that in fp32")
    epochs: int
    seconds: float = Field(description="wall time of fitting, over all attempts")
    examples_per_second: float = Field(description="training alone, without validation and start")
    precision: str
    ranks: int
    batch_size: int


def write_atomically(path: Path, value: Any) -> None:
    """Whoever sees the file sees all of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.write_text(json.dumps(value, indent=1), encoding="utf-8")
    draft.replace(path)
