"""From a log of what people did to a model that says what they want next."""

from prefect import flow

from tasks.artifacts import Release
from tasks.baselines import baselines
from tasks.distil import distil
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.quantize import quantize
from tasks.release import release
from tasks.settings import Budget, Fit, Pretraining, Pruning
from tasks.train import fine_tune, pretrain
from usecases.recommendation import Recommendation


@flow(persist_result=False)
def recommendation(
    usecase: Recommendation = Recommendation(),
    pretraining: Pretraining = Pretraining(),
    fit: Fit = Fit(),
    pruning: Pruning = Pruning(),
    budget: Budget = Budget(),
) -> Release:
    """Prepare a log, compute the baselines, pretrain on all behaviour, fine-tune, teach a student, prune, export, quantise, choose and bundle."""
    dataset = prepare(usecase)
    simple = baselines(dataset)
    backbone = pretrain(dataset, pretraining)
    checkpoint = fine_tune(backbone, dataset, fit)
    student = distil(checkpoint, dataset, fit)
    pruned = prune(checkpoint, dataset, pruning)

    full = export(checkpoint, dataset)
    small = [export(student, dataset, "student", "compressed")] if student else []
    small += [export(pruned, dataset, pruning.label, "compressed")] if pruned else []
    near = [export(quick, dataset, "near items", "compressed")] if (quick := checkpoint.approximate()) else []
    computed = [export(baseline, dataset, name, "baseline") for name, baseline in simple.items()]
    candidates = [*(q for model in (full, *small, *near) for q in (model, *quantize(model, dataset, budget))), *computed]
    return release(evaluate(candidates, dataset), dataset, budget)


if __name__ == "__main__":
    from flows.cli import main

    main(recommendation)
