"""Compares two rules of choice on the same runs: choosing on validation, and choosing on the test split.

    python -m flows.nlp --preset smoke --json > nlp.json
    python -m benchmarks.choice nlp.json [MORE.json ...] [--max-loss 0.005]

Each file is the output of a flow with `--json`, whose evaluations have the scores and intervals of both splits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tasks.contract.artifacts import Evaluation, Release
from tasks.evaluation.choose import choose, interval, reference_of
from tasks.settings import Budget


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="+", type=Path)
    parser.add_argument("--max-loss", type=float, default=Budget().max_loss, help="max_loss of the budget of the flows")
    parser.add_argument("--objective", choices=("latency", "size"), default="latency")
    arguments = parser.parse_args()
    for path in arguments.releases:
        printed = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        release = Release.model_validate({name: value for name, value in printed.items() if name in Release.model_fields})
        budget = Budget(max_loss=arguments.max_loss, objective=arguments.objective)
        print(f"\n{path.stem}: {len(release.rejected) + 1} candidates", flush=True)
        compare([release.chosen, *(rejection.evaluation for rejection in release.rejected)], budget)


def compare(evaluations: Sequence[Evaluation], budget: Budget) -> None:
    """Print the choice of both rules, with scores on both splits."""
    monitor = evaluations[0].model.usecase.monitor
    places = {e.model.digest: e for e in evaluations}
    for rule, ranked in (("chosen on validation", evaluations), ("chosen on test", by_test(evaluations, monitor))):
        chosen, reason, _ = choose(ranked, monitor, budget)
        reference = reference_of(ranked, monitor)
        print(f"  {rule}: {chosen.label}, compared with {reference.label}")
        for label, of in {chosen.label: chosen, reference.label: reference}.items():
            print(f"    {label}: {figures(places[of.model.digest], monitor)}")
        print(f"    {reason}", flush=True)


def by_test(evaluations: Sequence[Evaluation], monitor: str) -> list[Evaluation]:
    """The evaluations with the test split in place of validation, and without folds.

    The intervals on the test split are differences from the reference that is best on validation. If another one is best on the test split,
    they do not apply and are left out.
    """
    swapped = [e.model_copy(update={"validation": e.scores, "gain": e.test_gain, "folds": ()}) for e in evaluations]
    if reference_of(swapped, monitor).model.digest == reference_of(evaluations, monitor).model.digest:
        return swapped
    return [e.model_copy(update={"gain": None}) for e in swapped]


def figures(evaluation: Evaluation, monitor: str) -> str:
    scores = (
        f"{split} {of[monitor]:.4f}{f' ({interval(gain)})' if gain else ''}"
        for split, of, gain in (
            ("validation", evaluation.validation, evaluation.gain),
            ("test", evaluation.scores, evaluation.test_gain),
        )
    )
    return f"{monitor} {', '.join(scores)}; p50 {evaluation.latency_ms.p50:.3f} ms, {evaluation.megabytes:.2f} MB"


if __name__ == "__main__":
    main()
