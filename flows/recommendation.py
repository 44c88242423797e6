"""From a log of what people did to a model that says what they want next."""

from prefect import flow

from tasks.baselines import baselines
from tasks.compress import compress
from tasks.compression.methods import Compression
from tasks.contract.artifacts import Release
from tasks.distil import distil
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.prepare import prepare
from tasks.quantize import quantize
from tasks.release import release
from tasks.settings import Budget, Distillation, Fit, Pretraining
from tasks.train import fine_tune, pretrain
from usecases.recommendation import Recommendation


@flow(persist_result=False)
def recommendation(
    usecase: Recommendation = Recommendation(),
    pretraining: Pretraining = Pretraining(),
    fit: Fit = Fit(),
    distillation: Distillation = Distillation(),
    compression: Compression = Compression(),
    budget: Budget = Budget(),
) -> Release:
    """Prepare a log of events, compute baselines, train, distil, compress, evaluate and release a model that recommends items.

    Args:
        usecase: log of events and network.
        pretraining: training of the backbone without labels.
        fit: training.
        distillation: training of a smaller student.
        compression: methods and how they recover quality.
        budget: limits and objective of the choice.

    Returns:
        The released model with its report.
    """
    dataset = prepare(usecase)
    simple = baselines(dataset)
    backbone = pretrain(dataset, pretraining)
    checkpoint = fine_tune(backbone, dataset, fit)
    student = distil(checkpoint, dataset, fit, distillation)

    full = export(checkpoint, dataset)
    small = [export(student, dataset, "student", "compressed")] if student else []
    near = [export(quick, dataset, "near items", "compressed")] if (quick := checkpoint.approximate()) else []
    computed = [export(baseline, dataset, name, "baseline") for name, baseline in simple.items()]
    candidates = [full, *compress(checkpoint, full, dataset, compression, budget)]
    candidates += [q for model in (*small, *near) for q in (model, *quantize(model, dataset, budget))]
    return release(evaluate([*candidates, *computed], dataset), dataset, budget)


if __name__ == "__main__":
    from flows.cli import main

    main(recommendation)
