"""What a person sees while a flow runs. All of it goes to standard error: standard output is for what was asked for."""

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

from tasks.artifacts import Evaluation, Release
from tasks.reporting.facts import Step
from tasks.reporting.words import duration, quantity, score

Row = Mapping[str, Any]
CONSOLE = Console(stderr=True, highlight=False)  # one for all: rich moves concurrent lines out of each other's way
_steps: dict[str, Step] = {}


@dataclass
class Seen:
    """What a step says about itself before it ends."""

    cached: bool = False
    detail: str = ""
    update: Callable[[Row], None] = lambda row: None
    """Takes the progress rows of a training: phase, epoch, epochs, step, steps, loss, score, monitor, examples_per_second,
    seconds_left, learning_rate. What is not known yet may be absent or None."""


def step(name: str, needs: Sequence[str] = ()) -> AbstractContextManager[Seen]:
    """A step of the flow: a spinner while it lasts, then one line with its duration. `needs` names the steps before it."""
    return _step(name, needs, Seen(), CONSOLE.status(Text(name)))


def training_progress(name: str, needs: Sequence[str] = ()) -> AbstractContextManager[Seen]:
    """A step that trains: a progress bar on a terminal; elsewhere, such as in a log file, one line per epoch."""
    if not CONSOLE.is_terminal:
        epochs = _EpochLines(name)
        return _step(name, needs, Seen(update=epochs.update), epochs)
    bar = _training_bar()
    task = bar.add_task(name, total=None, facts="starting", epoch="")
    return _step(name, needs, Seen(update=lambda row: _advance(bar, task, row)), bar)


def take_steps() -> tuple[Step, ...]:
    """The steps this process has ended since it was last asked, in their order; forgets them."""
    taken = tuple(_steps.values())
    _steps.clear()
    return taken


def summary(release: Release, next_commands: Sequence[str] = ()) -> None:
    """The outcome: every candidate and why it lost, the report, and what to do next."""
    CONSOLE.print()
    CONSOLE.print(_candidates(release))
    for rejection in release.rejected:
        CONSOLE.print(Padding(Text.assemble((rejection.evaluation.label, "bold"), f": {rejection.reason}"), (0, 0, 0, 2)))
    CONSOLE.print(Padding(Text.assemble("\nChosen: ", (release.chosen.label, "bold"), f". {release.reason}"), (0, 0, 1, 0)))
    _line("Report  ", release.report)
    _line("Bundle  ", release.bundle)
    for number, command in enumerate(next_commands):
        _line("Next    " if number == 0 else "        ", command)
    CONSOLE.print(f"Done in {duration(release.seconds)}.")


@contextmanager
def _step(name: str, needs: Sequence[str], seen: Seen, display: AbstractContextManager[Any]) -> Iterator[Seen]:
    started = time.monotonic()
    try:
        with display:
            yield seen
    except BaseException:
        CONSOLE.print(Text.assemble(("✗ ", "red"), name, (f"  stopped after {duration(time.monotonic() - started)}", "dim")))
        raise
    seconds = time.monotonic() - started
    took = "from cache" if seen.cached else duration(seconds)
    CONSOLE.print(Text.assemble(("✓ ", "green"), f"{name:<12}", (f" {took:>12}", "dim"), f"  {seen.detail}"))
    _steps.pop(name, None)
    _steps[name] = Step(name=name, seconds=seconds, cached=seen.cached, needs=tuple(needs), detail=seen.detail)


def _training_bar() -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), TextColumn("{task.fields[epoch]}")
    return Progress(*columns, TextColumn("{task.fields[facts]}", markup=False), console=CONSOLE, transient=True, expand=True)


def _advance(bar: Progress, task: Any, row: Row) -> None:
    done = (row["epoch"] - 1) * row["steps"] + row["step"]
    total = row["epochs"] * row["steps"]
    bar.update(task, completed=done, total=total, epoch=f"{row['epoch']}/{row['epochs']}", facts=_facts_of(row))


class _EpochLines(AbstractContextManager["_EpochLines"]):
    """Prints the last row of each epoch, which is known to be the last once the next epoch begins or all ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.row: Row | None = None

    def update(self, row: Row) -> None:
        if self.row is not None and self.row["epoch"] != row["epoch"]:
            self._print(self.row)
        self.row = row

    def __exit__(self, *reason: object) -> None:
        if self.row is not None:
            self._print(self.row)

    def _print(self, row: Row) -> None:
        CONSOLE.print(Text(f"  {self.name}  epoch {row['epoch']}/{row['epochs']}  {_facts_of(row)}"))


def _facts_of(row: Row) -> str:
    parts = [
        f"loss {row['loss']:.3f}" if row.get("loss") is not None else "",
        f"{row['monitor']} {row['score']:.3f}" if row.get("score") is not None else "",
        f"{quantity(row['examples_per_second'])}/s" if row.get("examples_per_second") else "",
        f"{duration(row['seconds_left'])} left" if row.get("seconds_left") is not None else "",
    ]
    return "  ".join(part for part in parts if part)


def _candidates(release: Release) -> Table:
    monitor = release.chosen.model.usecase.monitor
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", width=1)
    table.add_column("candidate", overflow="fold")
    for title in (monitor, "p50 / p95 ms", "items/s", "MB"):
        table.add_column(title, justify="right", no_wrap=True)
    for evaluation in (release.chosen, *(rejection.evaluation for rejection in release.rejected)):
        chosen = evaluation is release.chosen
        table.add_row("✓" if chosen else "", Text(evaluation.label), *_numbers(evaluation, monitor), style="bold" if chosen else "")
    return table


def _numbers(evaluation: Evaluation, monitor: str) -> tuple[str, str, str, str]:
    latency = f"{quantity(evaluation.latency_ms.p50)} / {quantity(evaluation.latency_ms.p95)}"
    return score(evaluation.scores.get(monitor)), latency, quantity(evaluation.throughput), quantity(evaluation.megabytes)


def _line(title: str, value: str) -> None:
    """Never broken by us, so that a path or a command can be copied whole."""
    CONSOLE.print(Text.assemble((title, "dim"), value), soft_wrap=True)
