"""What travels along the edges of a flow: references with numbers, never tensors."""

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
    """The folder of the store: `$VERTICALS_HOME`, else `.verticals` beside the code."""
    return Path(os.environ.get("VERTICALS_HOME") or Path(__file__).parents[2] / ".verticals").resolve()


class Artifact(Record):
    """A folder in the store, named by the digest of its content, and what it was made from.

    The record holds no path: the store is told where it is, and may be moved or copied.
    """

    digest: str = Field(description="sha256 of the content, hex")
    usecase: AnyUseCase
    made_from: tuple[str, ...] = Field(default=(), description="digests of the artifacts it was made from")

    _elsewhere: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        return self._elsewhere or home() / type(self).__name__.lower() / self.digest[:16]

    def at(self, folder: Path) -> Self:
        """The same, of a folder outside of the store."""
        found = self.model_copy()
        found._elsewhere = folder
        return found

    @property
    def assets(self) -> Path:
        """What a request needs to be understood: labels, normalisation, a tokenizer."""
        return self.folder / "assets"

    def read(self, name: str) -> Any:
        """A JSON file of the folder."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


class Dataset(Artifact):
    """Prepared data.

    `card.json` in its folder: `{"layout": str, "sizes": {"train": int, "validation": int, "test": int},
    "labels": [str], "counts": {split: {label: int}}, "findings": [{"kind": str, "count": int, "examples": [str],
    "action": str}], "facts": {what: value}, ...}`; labels, counts and facts (further lines about the data in the report) are optional.
    """

    sizes: dict[str, int]

    @property
    def card(self) -> dict[str, Any]:
        return self.read("card.json")


class Checkpoint(Artifact):
    """A trained network: `weights.safetensors`, `assets/`, `history.json` (a row per epoch), `fit.json`."""

    scores: dict[str, float] = Field(description="on the validation split, with the kept weights")
    seconds: float = Field(description="wall time of fitting, over all attempts")
    epochs: int
    precision: str = Field(description="that it was trained in: 32-true, bf16-mixed or 16-mixed")
    precision_gap: float = Field(description="the monitored validation score in that precision minus the one in fp32")
    examples_per_second: float = Field(description="training alone, without validation and start")

    def approximate(self) -> Checkpoint | None:
        """The same weights behind the use case's approximate way to its answers; None where that would not pay."""
        usecase = self.usecase.approximation(self.assets) if isinstance(self.usecase, HasApproximation) else None
        return self.model_copy(update={"usecase": usecase}) if usecase else None


class OnnxModel(Artifact):
    """A bundle: `model.onnx` or `model.onnx.gz`, `usecase.json`, `assets/`, `example/` (a request and its answer), `README.md`.

    It can be copied to another machine and served there.
    """

    label: str = Field(description="how a person would call it: fp32, int8 static entropy chained, markov, ...")
    role: Literal["full", "compressed", "baseline", "before"] = Field(
        default="full", description="trained as it is; made smaller; computed, to be beaten; or as it was before it was adapted"
    )
    megabytes: float = Field(description="size of the graph and its weights as they are stored, 10^6 bytes")


class Explanation(Artifact):
    """What a trained network looks at: `blocks.json`, which the report draws."""


class Latency(Record):
    """Milliseconds for one request at batch 1, the session alone."""

    p50: float
    p95: float


class Interval(Record):
    """A difference of scores on the same examples, and where it lies in 95 % of samples like them."""

    measured: float
    low: float
    high: float


class Fold(Record):
    """A part of the validation split is held out: a candidate on the rest, where one is chosen, and on that part, which judges the choice."""

    score: float = Field(description="monitored score on the rest")
    gain: Interval | None = Field(
        description="on the rest, the score minus that of the best candidate there that was not compressed; None: it is that one"
    )
    held_out: float = Field(description="monitored score on the part that is held out")


class Evaluation(Record):
    """Measured on the very graph that would be served. Validation decides, the test split is reported."""

    model: OnnxModel
    validation: dict[str, float] = Field(description="scores on the validation split, which decide")
    gain: Interval | None = Field(
        default=None,
        description="on the validation split, the monitored score minus that of the best candidate there that was not compressed (the "
        "reference); None: it is that one, or the score cannot be taken apart by example",
    )
    folds: tuple[Fold, ...] = Field(default=(), description="the same for cross-validation; none: too few examples, or as above")
    scores: dict[str, float] = Field(description="scores on the test split, which are reported")
    test_gain: Interval | None = Field(default=None, description="the same as `gain` on the test split, against the same reference")
    latency_ms: Latency
    throughput: float = Field(description="examples per second at the batch size that was best")
    megabytes: float
    memory_megabytes: float = Field(
        description="peak resident memory, 10^6 bytes, that a fresh process needs to open the bundle and answer one real request, "
        "above what it holds just before it opens it"
    )
    energy_millijoules: float | None = Field(
        default=None, description="per example at that batch size, of the whole processor; None: this machine does not count it"
    )
    load_seconds: float
    cpu: str = Field(description="model and the flags that decide int8 speed")
    threads: int

    @property
    def label(self) -> str:
        return self.model.label


class Rejection(Record):
    evaluation: Evaluation
    reason: str


class Release(Record):
    """The outcome of a flow."""

    chosen: Evaluation
    reason: str
    rejected: tuple[Rejection, ...]
    registered: str = Field(default="", description="the version that it is in the repository of `make serve`, below the store's folder")
    report: str = Field(description="the HTML report, below the store's folder")
    answer: dict[str, Any] = Field(description="the chosen bundle's answer to its example request")
    seconds: float = Field(description="wall time of the whole run")

    @property
    def bundle(self) -> Path:
        """The folder to serve or to copy elsewhere."""
        return self.chosen.model.folder

    def as_json(self) -> dict[str, Any]:
        """For scripts on this machine: all fields, with the absolute paths of bundle, registered version and report."""
        paths = {"bundle": str(self.bundle), "registered": str(home() / self.registered), "report": str(home() / self.report)}
        return {**self.model_dump(mode="json"), **paths}
