"""Any use case that is found by its entry point: `python -m flows.usecase NAME`; another package's needs no flow of its own."""

from prefect import flow

from tasks.baselines import baselines
from tasks.compress import compress
from tasks.compression.methods import Compression
from tasks.contract.artifacts import Release
from tasks.contract.usecase import AnyUseCase
from tasks.distil import distil
from tasks.evaluate import evaluate
from tasks.explain import explain
from tasks.export import export
from tasks.prepare import prepare
from tasks.quantize import quantize
from tasks.release import release
from tasks.settings import Adaptation, Budget, Distillation, Fit, Pretraining
from tasks.train import adapt, fine_tune, pretrain


@flow(persist_result=False)
def usecase(
    usecase: AnyUseCase,
    pretraining: Pretraining = Pretraining(),
    fit: Fit = Fit(),
    adaptation: Adaptation = Adaptation(),
    distillation: Distillation = Distillation(),
    compression: Compression = Compression(),
    budget: Budget = Budget(),
) -> Release:
    """Prepare data, compute baselines, pretrain, fine-tune, adapt, distil, compress, evaluate and release, as far as the use case can.

    Args:
        usecase: the use case: data and network.
        pretraining: training of the backbone without labels.
        fit: training.
        adaptation: fine-tuning for a part of the data.
        distillation: training of a smaller student.
        compression: methods and how they recover quality.
        budget: limits and objective of the choice.

    Returns:
        The released model with its report.
    """
    dataset = prepare(usecase)
    simple = baselines(dataset)
    backbone = pretrain(dataset, pretraining)
    checkpoint = adapt(fine_tune(backbone, dataset, fit), dataset, adaptation)
    student = distil(checkpoint, dataset, fit, distillation)

    full = export(checkpoint, dataset)
    small = [export(student, dataset, "student", "compressed")] if student else []
    computed = [export(baseline, dataset, name, "baseline") for name, baseline in simple.items()]
    candidates = [full, *compress(checkpoint, full, dataset, compression, budget)]
    candidates += [q for model in small for q in (model, *quantize(model, dataset, budget))]
    return release(evaluate([*candidates, *computed], dataset), dataset, budget, explain(checkpoint, dataset))


if __name__ == "__main__":
    from flows.cli import main_of

    main_of(usecase)
