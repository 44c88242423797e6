"""From pictures of roads to a small, fast, checked model that says what is where and how to steer."""

from prefect import flow

from tasks.artifacts import Release
from tasks.evaluate import evaluate
from tasks.explain import explain
from tasks.export import export
from tasks.prepare import prepare
from tasks.quantize import quantize
from tasks.release import release
from tasks.settings import Budget, Fit
from tasks.train import fine_tune
from usecases.driving_perception import DrivingPerception


@flow(persist_result=False)
def driving_perception(usecase: DrivingPerception = DrivingPerception(), fit: Fit = Fit(), budget: Budget = Budget()) -> Release:
    """Prepare road scenes, train, explain, export, quantise, evaluate, choose and bundle."""
    dataset = prepare(usecase)
    checkpoint = fine_tune(None, dataset, fit)
    views = explain(checkpoint, dataset)

    full = export(checkpoint, dataset)
    candidates = [full, *quantize(full, dataset, budget)]
    return release(evaluate(candidates, dataset), dataset, budget, views)


if __name__ == "__main__":
    from flows.cli import main

    main(driving_perception)
