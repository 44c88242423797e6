"""The description and the curves of a training."""

from __future__ import annotations

from tasks.reporting import charts
from tasks.reporting.facts import Stage
from tasks.reporting.formatting import duration, plain, quantity, score
from tasks.reporting.html import Markup, tag


def section(stage: Stage) -> Markup:
    """The description and the curves of a training, for the report."""
    pictures = [tag("article", curve) for curve in curves(stage)]
    return tag("div", tag("h3", stage.name), tag("p", description(stage)), tag("div", pictures, class_="grid"), class_="stage")


def description(stage: Stage) -> str:
    """Duration, speed and scores of a training, and the effect of mixed precision."""
    speed = f", {quantity(stage.examples_per_second)} examples per second" if stage.examples_per_second else ""
    scores = ", ".join(f"{name} {score(value)}" for name, value in stage.scores.items())
    text = (
        f"{plain(len(stage.history))} epochs in {duration(stage.seconds)}{speed}. On validation, with the weights that were kept: {scores}."
    )
    if stage.precision.endswith("mixed"):
        gap = round(stage.precision_gap, 4)
        text += f" Trained in {stage.precision} precision, in which {stage.monitor} "
        text += f"differs from fp32 by {gap:+.4f}." if gap else "is the same as in fp32."
    return text


def curves(stage: Stage) -> list[Markup]:
    """Losses, the monitored score and the learning rate, per epoch."""
    names = list(dict.fromkeys(name for row in stage.history for name, value in row.items() if isinstance(value, int | float)))
    groups = [
        ([name for name in names if "loss" in name], "loss"),
        ([name for name in (stage.monitor, "score") if name in names][:1], stage.monitor),
        ([name for name in names if name == "learning_rate"], "learning rate"),
    ]
    return [_curve(stage, group, label) for group, label in groups if group]


def _curve(stage: Stage, names: list[str], label: str) -> Markup:
    epochs = [row.get("epoch", number) for number, row in enumerate(stage.history, 1)]
    series = [{"name": name.replace("_", " "), "x": epochs, "y": [row.get(name) for row in stage.history]} for name in names]
    return charts.lines(series, "epoch", label, f"{stage.name}: {label} per epoch")
