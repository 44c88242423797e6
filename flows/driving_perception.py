"""From pictures of roads to a small, fast, checked model that says what is where and how to steer."""

from prefect import flow

from tasks.artifacts import Release
from tasks.evaluate import evaluate
from tasks.explain import explain
from tasks.export import export
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.quantize import quantize
from tasks.release import release
from tasks.settings import Adaptation, Budget, Fit, Pruning
from tasks.train import adapt, fine_tune
from usecases.driving_perception import DrivingPerception


@flow(persist_result=False)
def driving_perception(
    usecase: DrivingPerception = DrivingPerception(),
    fit: Fit = Fit(),
    adaptation: Adaptation = Adaptation(),
    pruning: Pruning = Pruning(),
    budget: Budget = Budget(),
) -> Release:
    """Prepare road scenes, train, prune, adapt to a scenario, explain, export, quantise, evaluate, choose and bundle."""
    dataset = prepare(usecase)
    trained = fine_tune(None, dataset, fit)
    checkpoint = adapt(trained, dataset, adaptation)
    pruned = prune(trained, dataset, pruning)
    views = explain(checkpoint, dataset)

    full = export(checkpoint, dataset)
    small = [export(adapt(pruned, dataset, adaptation), dataset, pruning.label, "compressed")] if pruned else []
    candidates = [q for model in (full, *small) for q in (model, *quantize(model, dataset, budget))]
    if checkpoint != trained:
        candidates.append(export(trained, dataset, label="before adapting", role="before"))
    return release(evaluate(candidates, dataset), dataset, budget, views)


if __name__ == "__main__":
    from flows.cli import main

    main(driving_perception)
