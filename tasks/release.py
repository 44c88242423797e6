"""Choose the candidate that is served, answer an example request, and write the report of the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from tasks import store
from tasks.contract.artifacts import Checkpoint, Dataset, Evaluation, Explanation, OnnxModel, Release
from tasks.contract.blocks import AnswerBlock
from tasks.contract.capabilities import HasFigures
from tasks.contract.plugins import vertical_of
from tasks.evaluation.choose import choose, reference_of
from tasks.reporting import prefect_text
from tasks.reporting.facts import Facts, Stage
from tasks.reporting.model_card import model_card
from tasks.reporting.report import write_report
from tasks.reporting.terminal import step, summary, take_steps
from tasks.reporting.terminal_blocks import one_line
from tasks.serving import publishing
from tasks.serving.bundle import example_path, open_bundle
from tasks.serving.graph_files import TABLE
from tasks.settings import Budget
from tasks.store.runs import Run, write_run

KEPT_VERSIONS = 10  # of each model in the repository that `verticals serve` serves


@task(persist_result=False)
def release(evaluations: Sequence[Evaluation], dataset: Dataset, budget: Budget, explanation: Explanation | None = None) -> Release:
    """Choose a candidate, publish its bundle, and write the report.

    Args:
        evaluations: of all candidates.
        dataset: that they were trained and evaluated on.
        budget: limits and objective of the choice.
        explanation: attributions of the trained network for the report; None: none.

    Returns:
        The chosen candidate with the reason, the rejected ones with theirs, and the answer to the example request.
    """
    usecase = dataset.usecase
    with step("choose") as progress:
        progress.uses.take(*evaluations)
        chosen, reason, rejected = choose(evaluations, usecase.monitor, budget)
        progress.uses.give(chosen)
        progress.detail = chosen.label
    with step("answer") as progress:
        progress.uses.take(chosen)
        answer, blocks = answer_example(chosen.model.folder)
        progress.detail = one_line(blocks)
    started = datetime.now(UTC) - timedelta(seconds=_seconds_so_far())
    run = f"{usecase.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    report = Path("reports") / f"{run}.html"
    settings = _settings(dataset, store.lineage(chosen.model.digest)) | {"budget": budget.model_dump()}
    version = register(chosen.model, model_card(chosen, reason, dataset.card, settings))
    released = Release(
        chosen=chosen,
        reason=reason,
        rejected=tuple(rejected),
        registered=str(version.relative_to(store.home())),
        report=str(report),
        answer=answer,
        seconds=_seconds_so_far(),
    )
    with step("report") as progress:
        progress.uses.take(chosen)
        facts = gather(released, dataset, settings, explanation).model_copy(update={"answer": tuple(blocks)})
        write_report(facts, store.home() / report)
        write_run(Run(id=run, started=started, settings=facts.settings, release=released))
        publish(facts)
    summary(released, facts.next_commands)
    return released


def register(model: OnnxModel, card: str) -> Path:
    """Publish a bundle with its model card as the newest version of the model of its vertical, and remove old versions."""
    version = publishing.publish(model.folder, store.home() / "models", model.usecase.name, card)
    publishing.remove_old(version.parent, KEPT_VERSIONS)
    return version


def answer_example(bundle: Path) -> tuple[dict[str, Any], list[AnswerBlock]]:
    """The answer of a bundle to its example request, and the blocks that show it."""
    opened = open_bundle(bundle)
    request = opened.example_request()
    (answer,) = opened.answer([request])
    return answer, opened.blocks(request, answer)


def gather(released: Release, dataset: Dataset, settings: dict[str, dict[str, Any]], explanation: Explanation | None = None) -> Facts:
    """Collect the contents of the report from the artifacts of the run.

    Args:
        released: the choice.
        dataset: of the run.
        settings: of the run by section.
        explanation: attributions of the trained network; None: none.

    Returns:
        The contents of the report, without the answer to the example request.
    """
    usecase, chosen, evaluations = dataset.usecase, released.chosen.model, (released.chosen, *(r.evaluation for r in released.rejected))
    manifests = store.lineage(chosen.digest)
    stages = tuple(_stage(manifest) for manifest in reversed(manifests) if manifest["kind"] == "checkpoint")
    tables = [e.model.folder / TABLE for e in evaluations]
    return Facts(
        flow=usecase.name,
        settings=settings,
        card=dataset.card,
        chosen=released.chosen,
        reason=released.reason,
        rejected=released.rejected,
        reference=reference_of(evaluations, usecase.monitor).label,
        seconds=released.seconds,
        steps=take_steps(),
        stages=stages,
        recipes=next((tuple(json.loads(table.read_text())) for table in tables if table.exists()), ()),
        figures=_figures(chosen, dataset, explanation),
        lineage=tuple(manifests),
        next_commands=_next_commands(released, vertical_of(usecase) or usecase.name),
    )


def _figures(chosen: OnnxModel, dataset: Dataset, explanation: Explanation | None) -> dict[str, Any]:
    """Figures of the served model, followed by the attributions of the trained network."""
    usecase = chosen.usecase
    served = usecase.figures(open_bundle(chosen.folder, threads=0).predict, dataset.folder) if isinstance(usecase, HasFigures) else {}
    inside = explanation.read("blocks.json") if explanation else []
    return {**served, "blocks": [*served.get("blocks", []), *inside]}


def _settings(dataset: Dataset, manifests: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    fits = {m["step"]: m["settings"].get("fit", {}) for m in reversed(manifests) if m["kind"] == "checkpoint"}
    return {"usecase": dataset.usecase.model_dump(mode="json"), **fits}


def _stage(manifest: dict[str, Any]) -> Stage:
    folder = store.find(manifest["digest"])
    checkpoint = Checkpoint.model_validate(manifest["record"])
    history = tuple(json.loads((folder / "history.json").read_text()))
    return Stage(
        name=manifest["step"],
        monitor=checkpoint.usecase.monitor,
        history=history,
        seconds=checkpoint.seconds,
        scores=checkpoint.scores,
        precision=checkpoint.precision,
        precision_gap=checkpoint.precision_gap,
        examples_per_second=checkpoint.examples_per_second,
    )


def _next_commands(released: Release, vertical: str) -> tuple[str, ...]:
    example = _from_here(example_path(released.bundle))
    return (
        f"verticals predict {_from_here(store.home() / released.registered)} {example}",
        "verticals serve    # serves the model, its web page and its API docs at http://127.0.0.1:8000",
        f"verticals run {vertical} YOUR_DATA --preset default",
        "verticals up    # then: verticals schedule " + vertical + ' YOUR_DATA --cron "0 3 * * *"',
    )


def _from_here(path: Path) -> str:
    """A path relative to the working folder, if it is inside."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def publish(facts: Facts) -> None:
    """Create artifacts in Prefect with the contents of the report."""
    prefix = facts.flow.replace("_", "-")
    for name, markdown in prefect_text.artifacts(facts).items():
        create_markdown_artifact(markdown, key=f"{prefix}-{name}")


def _seconds_so_far() -> float:
    run = FlowRunContext.get()
    return (datetime.now(UTC) - run.start_time).total_seconds() if run else 0.0
