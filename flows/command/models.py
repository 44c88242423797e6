"""`verticals serve | predict | explain | score | publish | edge | overlay | key`: what is done with a released model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.serving.__main__ import main as serving
from tasks.serving.released import find_bundle, models_folder

PROG = "verticals"


def serve(arguments: Sequence[str]) -> int:
    """`verticals serve [MODELS] [settings]`: without MODELS, all models that were released in this folder, and new versions as they come."""
    named = bool(arguments) and not arguments[0].startswith("-")
    if named and Path(arguments[0]).is_dir():
        return serving(arguments, PROG)
    if named:
        return serving([str(find_bundle(arguments[0])), *arguments[1:]], PROG)
    models_folder().mkdir(parents=True, exist_ok=True)
    given = {argument.partition("=")[0].replace("-", "_") for argument in arguments}
    usual = {"__watch_seconds": "2", "__graph_cache": str(models_folder().with_name("graphs"))}
    added = [part for name, value in usual.items() if name not in given for part in (f"--{name[2:]}", value)]
    return serving([str(models_folder()), *added, *arguments], PROG)


def predict(arguments: Sequence[str]) -> int:
    """`verticals predict MODEL REQUEST...`."""
    return serving(["predict", *arguments], PROG)


def explain(arguments: Sequence[str]) -> int:
    """`verticals explain MODEL REQUEST...`."""
    return serving(["explain", *arguments], PROG)


def score(arguments: Sequence[str]) -> int:
    """`verticals score MODEL SOURCE OUT`."""
    return serving(["score", *arguments], PROG)


def publish(arguments: Sequence[str]) -> int:
    """`verticals publish MODEL REPOSITORY`."""
    return serving(["publish", *arguments], PROG)


def key(arguments: Sequence[str]) -> int:
    """`verticals key NAME`."""
    return serving(["key", *arguments], PROG)


def edge(arguments: Sequence[str]) -> int:
    """`verticals edge MODEL OUT`."""
    from tasks.exporting.edge import main

    return main(arguments, "verticals edge")


def overlay(arguments: Sequence[str]) -> int:
    """`verticals overlay MODEL VIDEO_OR_FOLDER OUT`."""
    from usecases.driving_perception.overlay import main

    return main(arguments, "verticals overlay")
