"""The terminal output of a running flow. It is written to standard error; standard output is for results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from tasks.contract.artifacts import Evaluation, Release, home
from tasks.contract.errors import TrainingError
from tasks.contract.types import Say, silently
from tasks.reporting.facts import Step
from tasks.reporting.formatting import clock, duration, interval, quantity, score
from tasks.store.uses import Uses, noted

Row = Mapping[str, Any]
FITTING = ((80, 6), (66, 5), (0, 3))  # width of the terminal, and the number of columns after the name of a candidate that fit
CONSOLE = Console(stderr=True, highlight=False)  # shared, so that rich can coordinate concurrent output
_steps: dict[str, Step] = {}
_givers: dict[str, str] = {}  # identity of a record -> name of the step of this run that returned it


@dataclass
class StepProgress:
    """The state of a step that is running."""

    uses: Uses
    """The records that the step takes and returns; the store adds those that it finds or saves."""
    cached: bool = False
    detail: str = ""
    say: Say = silently
    """Shows a text next to the spinner."""
    update: Callable[[Row], None] = lambda row: None
    """Takes the progress rows of a training: phase, epoch, epochs, step, steps, loss, score, monitor, examples_per_second,
    seconds_left, learning_rate. Values that are not known yet are absent or None."""


def step(name: str) -> AbstractContextManager[StepProgress]:
    """A step of the flow: shows a spinner while it runs, then one line with its duration."""
    status = CONSOLE.status(Text(name))
    return _step(name, StepProgress(Uses(), say=lambda text: status.update(Text.assemble(name, (f"  {text}", "dim")))), status)


def training_progress(name: str) -> AbstractContextManager[StepProgress]:
    """A training step: shows a progress bar on a terminal, and one line per epoch elsewhere, such as in a log file."""
    if not CONSOLE.is_terminal:
        epochs = _EpochLines(name)
        return _step(name, StepProgress(Uses(), update=epochs.update), epochs)
    bar = _TrainingBar(name)
    return _step(name, StepProgress(Uses(), update=bar.update), bar.progress)


def remark(text: str) -> None:
    """Print a remark on the step that has just ended; it is also added to the report."""
    if _steps:
        name, last = next(reversed(_steps.items()))
        _steps[name] = last.model_copy(update={"detail": "; ".join(filter(None, (last.detail, text)))})
    CONSOLE.print(Padding(Text(text, "dim"), (0, 0, 0, 2), expand=False))


def take_steps() -> tuple[Step, ...]:
    """The steps that ended since the last call, in order; they are removed from the list."""
    global _steps
    taken, _steps = tuple(_steps.values()), {}
    _givers.clear()
    return taken


def summary(release: Release, next_commands: Sequence[str] = ()) -> None:
    """Print the result: all candidates, the reasons of the choice, the path of the report, and the next commands."""
    CONSOLE.print()
    CONSOLE.print(_candidates(release))
    for rejection in release.rejected:
        CONSOLE.print(Padding(Text.assemble((rejection.evaluation.label, "bold"), f": {rejection.reason}"), (0, 0, 0, 2), expand=False))
    CONSOLE.print(Padding(Text.assemble("\nChosen: ", (release.chosen.label, "bold"), f". {release.reason}"), (0, 0, 1, 0), expand=False))
    _line("Test    ", _tested(release.chosen))
    _line("Report  ", str(home() / release.report))
    _line("Bundle  ", str(release.bundle))
    for number, command in enumerate(next_commands):
        _line("Next    " if number == 0 else "        ", command)
    CONSOLE.print(f"Done in {duration(release.seconds)}.")


@contextmanager
def _step(name: str, progress: StepProgress, display: AbstractContextManager[Any]) -> Iterator[StepProgress]:
    started, steps = time.monotonic(), _steps  # a step that is still open when the steps are taken does not belong to a later run
    try:
        with display, noted() as progress.uses:
            yield progress
    except BaseException as error:
        stopped = f"  stopped after {duration(time.monotonic() - started)}"
        CONSOLE.print(Text.assemble(("✗ ", "red"), name, (stopped, "dim")))
        if isinstance(error, TrainingError):  # the step may be retried, and the message would be lost
            CONSOLE.print(Padding(Text(str(error)), (0, 0, 0, 2)), soft_wrap=True)
        raise
    seconds = time.monotonic() - started
    took = "from cache" if progress.cached else duration(seconds)
    CONSOLE.print(Text.assemble(("✓ ", "green"), f"{name:<16}", (f" {took:>12}", "dim"), f"  {progress.detail}"))
    steps.pop(name, None)
    needs = {_givers[identity] for identity in progress.uses.taken if identity in _givers}
    _givers.update(dict.fromkeys(progress.uses.given, name))
    in_order = tuple(one for one in steps if one in needs)
    steps[name] = Step(name=name, seconds=seconds, cached=progress.cached, needs=in_order, detail=progress.detail)


class _TrainingBar:
    def __init__(self, name: str) -> None:
        texts = [TextColumn(f"{{task.fields[{field}]}}", markup=False) for field in ("epoch", "facts")]
        columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), *texts
        self.progress = Progress(*columns, console=CONSOLE, transient=True, expand=True)
        self.task = self.progress.add_task(name, total=None, facts="starting", epoch="")
        self.row: Row = {}

    def update(self, row: Row) -> None:
        self.row = row = _merged(self.row, row)
        if "epoch" not in row:
            return
        done, total = (row["epoch"] - 1) * row["steps"] + row["step"], row["epochs"] * row["steps"]
        self.progress.update(self.task, completed=done, total=total, epoch=f"{row['epoch']}/{row['epochs']}", facts=_facts_of(row))


class _EpochLines(AbstractContextManager["_EpochLines"]):
    """Prints a line at the end of each epoch, that is when the next one begins or the training ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.row: Row = {}

    def update(self, row: Row) -> None:
        if row.get("epoch", self.row.get("epoch")) != self.row.get("epoch"):
            self._print()
        self.row = _merged(self.row, row)

    def __exit__(self, *reason: object) -> None:
        self._print()

    def _print(self) -> None:
        if self.row.get("epoch"):
            CONSOLE.print(Text(f"  {self.name}  epoch {self.row['epoch']}/{self.row['epochs']}  {_facts_of(self.row)}"))


def _merged(known: Row, row: Row) -> Row:
    """Merge a progress row into the known values; a row may have only some of them."""
    return {**known, **{name: value for name, value in row.items() if value is not None}}


def _facts_of(row: Row) -> str:
    parts = [
        f"loss {row['loss']:.3f}" if "loss" in row else "",
        f"{row['monitor']} {row['score']:.3f}" if "score" in row else "",
        f"{quantity(row['examples_per_second'])}/s" if row.get("examples_per_second") else "",
        f"{clock(row['seconds_left'])} left" if "seconds_left" in row else "",
    ]
    return "  ".join(part for part in parts if part)


def _candidates(release: Release) -> Table:
    monitor = release.chosen.model.usecase.monitor
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", width=1)
    table.add_column("candidate", overflow="fold")
    scores = f"{monitor}\nvalidation", "\ntest"
    titles = (*scores, "p50 / p95 ms", "items/s", "MB", "memory MB")[: next(shown for width, shown in FITTING if CONSOLE.width >= width)]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for evaluation in (release.chosen, *(rejection.evaluation for rejection in release.rejected)):
        chosen = evaluation is release.chosen
        numbers = _numbers(evaluation, monitor)[: len(titles)]
        table.add_row("✓" if chosen else "", Text(evaluation.label), *numbers, style="bold" if chosen else "")
    return table


def _numbers(evaluation: Evaluation, monitor: str) -> tuple[str, ...]:
    latency = f"{quantity(evaluation.latency_ms.p50)} / {quantity(evaluation.latency_ms.p95)}"
    measured = (evaluation.throughput, evaluation.megabytes, evaluation.memory_megabytes)
    return score(evaluation.validation.get(monitor)), score(evaluation.scores.get(monitor)), latency, *map(quantity, measured)


def _tested(chosen: Evaluation) -> str:
    """The score of the chosen candidate on the test split."""
    monitor = chosen.model.usecase.monitor
    noise = f" (95 % interval of the difference from the reference: {interval(chosen.test_gain)})" if chosen.test_gain else ""
    return f"{monitor} {score(chosen.scores.get(monitor))}{noise}"


def _line(title: str, value: str) -> None:
    """Print a line without wrapping, so that paths and commands can be copied."""
    CONSOLE.print(Text.assemble((title, "dim"), value), soft_wrap=True)
