"""The records that the steps of a flow pass to each other: digests, numbers and settings, never tensors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr

from tasks.contract.capabilities import HasApproximation
from tasks.contract.records import Record
from tasks.contract.usecase import AnyUseCase


def home() -> Path:
    """The folder of the store: `$VERTICALS_HOME`, else `.verticals` in the working folder."""
    return Path(os.environ.get("VERTICALS_HOME") or ".verticals").resolve()


class Artifact(Record):
    """A folder in the store, named by the digest of its content.

    The record holds no path, so that a store may be moved or copied; `folder` follows from `$VERTICALS_HOME`.
    """

    digest: str = Field(description="sha256 of the content, hex")
    usecase: AnyUseCase
    made_from: tuple[str, ...] = Field(default=(), description="digests of the artifacts that it was made from")

    _elsewhere: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """The folder with the files of the artifact."""
        return self._elsewhere or home() / type(self).__name__.lower() / self.digest[:16]

    def at(self, folder: Path) -> Self:
        """A copy of the record whose files are in a folder outside of the store."""
        found = self.model_copy()
        found._elsewhere = folder
        return found

    @property
    def assets(self) -> Path:
        """The folder of the files that encode requests and decode outputs: labels, normalisation, a tokenizer."""
        return self.folder / "assets"

    def read(self, name: str) -> Any:
        """The parsed content of a JSON file in the folder."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


class Dataset(Artifact):
    """Prepared data, split into train, validation and test.

    Its folder has a data card, `card.json`: `{"layout": str, "sizes": {"train": int, "validation": int, "test": int},
    "labels": [str], "counts": {split: {label: int}}, "findings": [{"kind": str, "count": int, "examples": [str],
    "action": str}], "facts": {name: value}, ...}`. Labels, counts and facts are optional; facts are further rows about the data in the
    report.
    """

    sizes: dict[str, int] = Field(description="number of examples of each split")

    @property
    def card(self) -> dict[str, Any]:
        """The data card, see the class."""
        return self.read("card.json")


class Checkpoint(Artifact):
    """A trained network: `weights.safetensors`, `assets/`, `history.json` (a row per epoch), `fit.json`."""

    scores: dict[str, float] = Field(description="scores of the kept weights on the validation split")
    seconds: float = Field(description="wall time of the fit in seconds, summed over all attempts")
    epochs: int = Field(description="epochs that were trained")
    precision: str = Field(description="numeric precision of the training: 32-true, bf16-mixed or 16-mixed")
    precision_gap: float = Field(description="monitored validation score in the precision of the training minus the one in fp32")
    examples_per_second: float = Field(description="throughput of the training steps, without validation and start")

    def approximate(self) -> Checkpoint | None:
        """The same weights with the approximate inference of the use case; None where approximation would not pay."""
        usecase = self.usecase.approximation(self.assets) if isinstance(self.usecase, HasApproximation) else None
        return self.model_copy(update={"usecase": usecase}) if usecase else None


class OnnxModel(Artifact):
    """A bundle: `model.onnx` or `model.onnx.gz`, `usecase.json`, `assets/`, `example/` (a request and its answer), `README.md`.

    It can be copied to another machine and served there.
    """

    label: str = Field(description="name of the candidate in reports: fp32, int8 static entropy chained, markov, ...")
    role: Literal["full", "compressed", "baseline", "before"] = Field(
        default="full",
        description="full: the trained network; compressed: a smaller version of it; baseline: a simple model that the network has to beat; "
        "before: the network as it was before adaptation",
    )
    megabytes: float = Field(description="size of the stored graph with its weights, 10^6 bytes")


class Explanation(Artifact):
    """Attributions of a trained network: `blocks.json`, which the report draws."""


class Latency(Record):
    """Milliseconds of inference for one request at batch size 1, without reading the request and writing the answer."""

    p50: float
    p95: float


class Interval(Record):
    """A difference of two scores on the same examples, with its 95 % bootstrap interval."""

    measured: float = Field(description="the difference on the examples themselves")
    low: float = Field(description="lower end of the interval")
    high: float = Field(description="upper end of the interval")


class Fold(Record):
    """Scores of a candidate in one fold of the cross-validation of the choice.

    One part of the validation split is held out. The rule chooses a candidate on the other parts; the held-out part judges the choice.
    """

    score: float = Field(description="monitored score on the other parts, on which the rule chooses")
    gain: Interval | None = Field(
        description="on the other parts, the monitored score minus that of the reference, the best candidate there that was not compressed; "
        "None: this candidate is the reference"
    )
    held_out: float = Field(description="monitored score on the held-out part")


class Evaluation(Record):
    """Quality, speed, size and memory of one candidate, measured on the graph that would be served."""

    model: OnnxModel
    validation: dict[str, float] = Field(description="scores on the validation split, which decide")
    gain: Interval | None = Field(
        default=None,
        description="on the validation split, the monitored score minus that of the reference, the best candidate that was not compressed; "
        "None: this candidate is the reference, or the use case has no per-example statistics",
    )
    folds: tuple[Fold, ...] = Field(
        default=(),
        description="scores in each fold of the cross-validation; empty: too few examples, or a candidate without per-example statistics",
    )
    scores: dict[str, float] = Field(description="scores on the test split, which are reported and decide nothing")
    test_gain: Interval | None = Field(default=None, description="the same as `gain` on the test split, against the same reference")
    latency_ms: Latency
    throughput: float = Field(description="examples per second at the best of several batch sizes")
    megabytes: float = Field(description="size of the stored graph with its weights, 10^6 bytes")
    memory_megabytes: float = Field(
        description="peak resident memory, 10^6 bytes, of opening the bundle and answering one real request in a fresh process, less what "
        "that process held before"
    )
    energy_millijoules: float | None = Field(
        default=None,
        description="energy of the whole processor per example at the batch size of `throughput`; None: this machine has no readable counters",
    )
    load_seconds: float = Field(description="time to open the bundle")
    cpu: str = Field(description="model of the CPU and its flags that matter for the speed of int8")
    threads: int = Field(description="threads of one inference session")

    @property
    def label(self) -> str:
        """Name of the candidate in reports."""
        return self.model.label


class Rejection(Record):
    """A candidate that was not released, and why."""

    evaluation: Evaluation
    reason: str


class Release(Record):
    """The result of a flow: the candidate that is released, and the rejected ones."""

    chosen: Evaluation
    reason: str
    rejected: tuple[Rejection, ...]
    registered: str = Field(
        default="", description="folder of this version in the model repository of `verticals serve`, relative to the store"
    )
    report: str = Field(description="the HTML report, relative to the store")
    answer: dict[str, Any] = Field(description="the answer of the released bundle to its example request")
    seconds: float = Field(description="wall time of the whole run")

    @property
    def bundle(self) -> Path:
        """The folder of the released bundle, to serve or to copy elsewhere."""
        return self.chosen.model.folder

    def as_json(self) -> dict[str, Any]:
        """All fields ready for JSON, with absolute paths of bundle, registered version and report."""
        paths = {"bundle": str(self.bundle), "registered": str(home() / self.registered), "report": str(home() / self.report)}
        return {**self.model_dump(mode="json"), **paths}
