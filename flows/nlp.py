"""From texts to a model that classifies them, or finds the names in them."""

from prefect import flow

from tasks.baselines import baselines
from tasks.compress import compress
from tasks.compression.methods import Compression
from tasks.contract.artifacts import Release
from tasks.distil import distil
from tasks.evaluate import evaluate
from tasks.explain import explain
from tasks.export import export
from tasks.prepare import prepare
from tasks.quantize import quantize
from tasks.release import release
from tasks.settings import Budget, Distillation, Fit, Pretraining
from tasks.train import fine_tune, pretrain
from usecases.nlp import TextClassification


@flow(persist_result=False)
def nlp(
    usecase: TextClassification = TextClassification(),
    pretraining: Pretraining = Pretraining(),
    fit: Fit = Fit(),
    distillation: Distillation = Distillation(),
    compression: Compression = Compression(),
    budget: Budget = Budget(),
) -> Release:
    """Prepare texts, pretrain, fine-tune, distil, compress, evaluate and release a model that classifies texts or finds names in them.

    Args:
        usecase: texts, task and network.
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
    computed = [export(baseline, dataset, name, "baseline") for name, baseline in simple.items()]
    candidates = [full, *compress(checkpoint, full, dataset, compression, budget)]
    candidates += [q for model in small for q in (model, *quantize(model, dataset, budget))]
    return release(evaluate([*candidates, *computed], dataset), dataset, budget, explain(checkpoint, dataset))


if __name__ == "__main__":
    from flows.cli import main

    main(nlp)
