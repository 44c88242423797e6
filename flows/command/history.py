"""`verticals runs | compare | lineage`: what was run here, and what a model was made from."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.tree import Tree

from tasks.contract.artifacts import Evaluation, home
from tasks.contract.errors import BundleError
from tasks.contract.plugins import vertical_of
from tasks.reporting.formatting import duration, plain, quantity, score
from tasks.serving.released import find_bundle
from tasks.store import lineage as manifests_of
from tasks.store.digests import MANIFEST
from tasks.store.runs import Run, all_runs, find_run

CONSOLE = Console(highlight=False, width=None if sys.stdout.isatty() else 200)  # a file or a pipe has no width


def runs(arguments: Sequence[str]) -> int:
    """`verticals runs [VERTICAL]`: the newest first."""
    parser = argparse.ArgumentParser(prog="verticals runs", description="The runs of this folder, the newest first.")
    parser.add_argument("vertical", nargs="?", default="", help="only those of one vertical, such as nlp")
    parser.add_argument("--json", action="store_true", help="one line of JSON per run")
    given = parser.parse_args(arguments)
    found = [run for run in all_runs() if not given.vertical or given.vertical.replace("_", "-") in _names(run)]
    if given.json:
        for run in found:
            print(json.dumps({"id": run.id, "started": run.started.isoformat(), "data": run.data, "release": run.release.as_json()}))
        return 0
    if not found:
        print(f"No runs in {home()} yet. `verticals run VERTICAL DATA` makes one.")
        return 0
    table = Table(
        Column("run", no_wrap=True), "data", "released", "score", "on test", "ms (p50)", "MB", "took", box=None, header_style="dim"
    )
    for run in found:
        chosen = run.release.chosen
        monitor = chosen.model.usecase.monitor
        measured = quantity(chosen.latency_ms.p50), quantity(chosen.megabytes), duration(run.release.seconds)
        table.add_row(run.id, run.data, chosen.label, monitor, score(chosen.scores.get(monitor)), *measured)
    CONSOLE.print(table)
    return 0


def compare(arguments: Sequence[str]) -> int:
    """`verticals compare RUN RUN`: settings that differ, and the figures of what was released."""
    parser = argparse.ArgumentParser(prog="verticals compare", description="Two runs: settings that differ, scores, latency, size.")
    for name in ("first", "second"):
        parser.add_argument(name, metavar="RUN", help="id of a run, its first letters, last, or last-1")
    given = parser.parse_args(arguments)
    pair = find_run(given.first), find_run(given.second)
    table = Table("", *(run.id for run in pair), box=None, header_style="bold")
    flat = [dict(_flat(run.settings)) for run in pair]
    for name in [*flat[0], *(name for name in flat[1] if name not in flat[0])]:
        values = [plain(settings.get(name)) for settings in flat]
        if values[0] != values[1]:
            table.add_row(name, *values)
    figures = [_figures(run.release.chosen) | {"took": duration(run.release.seconds)} for run in pair]
    for name in dict.fromkeys((*figures[0], *figures[1])):
        table.add_row(name, *(figure.get(name, "–") for figure in figures))
    CONSOLE.print(table)
    return 0


def lineage(arguments: Sequence[str]) -> int:
    """`verticals lineage MODEL`: the steps that a model came from, the last first."""
    parser = argparse.ArgumentParser(prog="verticals lineage", description="What a model was made from, the last step first.")
    parser.add_argument("model", metavar="MODEL", help="a released model such as nlp, the id of a run, last, or a folder of a bundle")
    parser.add_argument("--json", action="store_true", help="the manifests as one line of JSON")
    given = parser.parse_args(arguments)
    path = find_bundle(given.model) / MANIFEST
    if not path.exists():
        raise BundleError(f"{path.parent} has no {MANIFEST}: it was not written by a run, or was packed for a device.")
    made = {manifest["digest"]: manifest for manifest in manifests_of(json.loads(path.read_text(encoding="utf-8"))["digest"])}
    if given.json:
        print(json.dumps(list(made.values())))
        return 0
    first = next(iter(made))
    CONSOLE.print(_tree(made, first, Tree(_line(made[first]))), soft_wrap=True)
    return 0


def _tree(made: Mapping[str, dict[str, Any]], digest: str, tree: Tree) -> Tree:
    for origin in made[digest]["made_from"]:
        _tree(made, origin, tree.add(_line(made[origin])))
    return tree


def _line(manifest: Mapping[str, Any]) -> str:
    libraries = ", ".join(
        f"{name} {version}" for name, version in manifest.get("libraries", {}).items() if name in ("torch", "onnxruntime")
    )
    facts = (manifest["made"], duration(manifest["seconds"]), manifest["host"], libraries)
    return f"[bold]{manifest['step'] or manifest['kind']}[/]  {manifest['kind']} {manifest['digest'][:16]}  [dim]{'  '.join(filter(None, facts))}[/]"


def _figures(chosen: Evaluation) -> dict[str, str]:
    monitor = chosen.model.usecase.monitor
    return {
        "released": chosen.label,
        f"{monitor} on validation": score(chosen.validation.get(monitor)),
        **{f"{name} on test": score(value) for name, value in chosen.scores.items()},
        "p50 in ms": quantity(chosen.latency_ms.p50),
        "p95 in ms": quantity(chosen.latency_ms.p95),
        "examples/s": quantity(chosen.throughput),
        "size in MB": quantity(chosen.megabytes),
        "memory in MB": quantity(chosen.memory_megabytes),
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif name != "type":  # the class of the record
            yield f"{prefix}{name}", value


def _names(run: Run) -> tuple[str, ...]:
    usecase = run.release.chosen.model.usecase
    return usecase.name.replace("_", "-"), vertical_of(usecase)
