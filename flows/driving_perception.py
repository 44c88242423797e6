"""From pictures of roads to a small, fast, checked model that says what is where and how to steer."""

from prefect import flow

from tasks.compress import compress
from tasks.compression.methods import Compression
from tasks.contract.artifacts import Release
from tasks.evaluate import evaluate
from tasks.explain import explain
from tasks.export import export
from tasks.prepare import prepare
from tasks.release import release
from tasks.settings import Adaptation, Budget, Fit
from tasks.train import adapt, fine_tune
from usecases.driving_perception import DrivingPerception


@flow(persist_result=False)
def driving_perception(
    usecase: DrivingPerception = DrivingPerception(),
    fit: Fit = Fit(),
    adaptation: Adaptation = Adaptation(),
    compression: Compression = Compression(),
    budget: Budget = Budget(),
) -> Release:
    """Prepare road scenes, train, adapt to a scenario, explain, compress, evaluate and release a model that perceives them.

    Args:
        usecase: road scenes, heads and network.
        fit: training.
        adaptation: fine-tuning for a part of the data.
        compression: methods and how they recover quality.
        budget: limits and objective of the choice.

    Returns:
        The released model with its report.
    """
    dataset = prepare(usecase)
    trained = fine_tune(None, dataset, fit)
    checkpoint = adapt(trained, dataset, adaptation)
    views = explain(checkpoint, dataset)

    full = export(checkpoint, dataset)
    candidates = [full, *compress(checkpoint, full, dataset, compression, budget)]
    if checkpoint != trained:
        candidates.append(export(trained, dataset, label="before adapting", role="before"))
    return release(evaluate(candidates, dataset), dataset, budget, views)


if __name__ == "__main__":
    from flows.cli import main

    main(driving_perception)
