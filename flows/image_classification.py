"""From a folder of images to a small, fast, checked model that names them."""

from prefect import flow

from tasks.artifacts import Release
from tasks.compress import compress
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.prepare import prepare
from tasks.release import release
from tasks.settings import Budget, Compression, Fit, Pretraining
from tasks.train import fine_tune, pretrain
from usecases.image_classification import ImageClassification


@flow(persist_result=False)
def image_classification(
    usecase: ImageClassification = ImageClassification(),
    pretraining: Pretraining = Pretraining(),
    fit: Fit = Fit(),
    compression: Compression = Compression(),
    budget: Budget = Budget(),
) -> Release:
    """Prepare images, pretrain a backbone without labels, fine-tune it, export, compress, evaluate, choose and bundle."""
    dataset = prepare(usecase)
    backbone = pretrain(dataset, pretraining)
    checkpoint = fine_tune(backbone, dataset, fit)

    full = export(checkpoint, dataset)
    candidates = [full, *compress(checkpoint, full, dataset, compression, budget)]
    return release(evaluate(candidates, dataset), dataset, budget)


if __name__ == "__main__":
    from flows.cli import main

    main(image_classification)
