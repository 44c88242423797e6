"""From a folder of images to a small, fast, checked model that names them."""

from prefect import flow

from tasks.artifacts import Release
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.quantize import quantize
from tasks.release import release
from tasks.settings import Budget, Fit, Pretraining, Pruning
from tasks.train import fine_tune, pretrain
from usecases.image_classification import ImageClassification


@flow(persist_result=False)
def image_classification(
    usecase: ImageClassification = ImageClassification(),
    pretraining: Pretraining = Pretraining(),
    fit: Fit = Fit(),
    pruning: Pruning = Pruning(),
    budget: Budget = Budget(),
) -> Release:
    """Prepare images, pretrain a backbone without labels, fine-tune it, prune, export, quantise, evaluate, choose and bundle."""
    dataset = prepare(usecase)
    backbone = pretrain(dataset, pretraining)
    checkpoint = fine_tune(backbone, dataset, fit)
    pruned = prune(checkpoint, dataset, pruning)

    full = export(checkpoint, dataset)
    small = [export(pruned, dataset, pruning.label, "compressed")] if pruned else []
    candidates = [q for model in (full, *small) for q in (model, *quantize(model, dataset, budget))]
    return release(evaluate(candidates, dataset), dataset, budget)


if __name__ == "__main__":
    from flows.cli import main

    main(image_classification)
