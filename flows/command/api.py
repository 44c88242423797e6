"""The same from Python: `from flows import run, serve, predict, score`. Nothing heavy is imported before it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.contract.artifacts import Release


def run(
    vertical: str, data: str | Path = "", *, preset: str = "", epochs: int | None = None, minutes: float | None = None, **settings: Any
) -> Release:
    """Train, compress, evaluate and release a model.

    Args:
        vertical: such as `image-classification`, or the name of another package's use case.
        data: folder or file, `hf://owner/name`, or `sample`; empty: what the preset or the default says.
        preset: the name of one in prefect.yaml.
        epochs: passes over the training split.
        minutes: budget of wall time of the training.
        settings: dotted names as on the command line, `**{"fit.learning_rate": 1e-3}`, or whole records, `fit=Fit(epochs=3)`.

    Returns:
        The release; `release.bundle` is the folder to serve.

    Raises:
        UserError: wrong settings, bad data, or Prefect's server does not answer.
    """
    from flows.command.running import run_flow
    from flows.command.settings import Options, fill, flow_of

    given: dict[str, Any] = {}
    short = {"usecase.data": str(data) or None, "fit.epochs": epochs, "fit.max_minutes": minutes}
    for name, value in {**settings, **{name: value for name, value in short.items() if value is not None}}.items():
        *path, last = name.split(".")
        inside = given
        for part in path:
            inside = inside.setdefault(part, {})
        inside[last] = value
    flow = flow_of(vertical)
    parameters, options = fill(flow, preset, given, Options(json=False, refresh=""))
    return run_flow(flow.load, parameters, options)


def predict(model: str | Path, requests: Sequence[Any], explain: bool = False) -> list[dict[str, Any]]:
    """Answers of a model to requests.

    Args:
        model: a released model such as `nlp`, the id of a run, or a folder of a bundle.
        requests: paths of files or texts as on the command line, or values as the model's API takes them.
        explain: adds the key `explanation` to each answer, where the model can explain.

    Returns:
        An answer for each request.

    Raises:
        BundleError: no such model, or a request that it cannot understand.
    """
    from tasks.serving.bundle import open_bundle
    from tasks.serving.released import find_bundle

    bundle = open_bundle(find_bundle(str(model)))
    read = [bundle.codec.read(str(request)) if isinstance(request, str | Path) else request for request in requests]
    answers = bundle.answer(read)
    return [{**a, "explanation": bundle.explain(r)} for a, r in zip(answers, read, strict=True)] if explain else answers


def score(model: str | Path, source: str | Path, out: str | Path, batch: int = 32) -> Any:
    """Answer many requests, a line of JSON for each.

    Args:
        model: as in `predict`.
        source: a folder with a file for each request, or a `.jsonl` or `.txt` file with one in each line.
        out: the file to write.
        batch: requests that are computed together.

    Returns:
        The counts of answered and refused requests, and the time.

    Raises:
        BundleError, DataError: no such model, or no requests.
    """
    from tasks.serving.bundle import open_bundle
    from tasks.serving.released import find_bundle
    from tasks.serving.scoring import find_requests
    from tasks.serving.scoring import score as score_all

    bundle = open_bundle(find_bundle(str(model)), threads=0)
    return score_all(bundle, find_requests(Path(source), bundle), Path(out), batch)


def serve(models: str | Path = "", **settings: Any) -> None:
    """Serve models until the process is stopped.

    Args:
        models: a folder of NAME/VERSION bundles or one bundle; empty: all that was released in this folder.
        settings: of `tasks.serving.settings.Serving`, such as `port=8000`.

    Raises:
        UserError: no models, or wrong settings.
    """
    from tasks.serving.released import models_folder
    from tasks.serving.server import serve as serve_models
    from tasks.serving.settings import Serving

    models_folder().mkdir(parents=True, exist_ok=True)
    serve_models(Path(models) if models else models_folder(), Serving.model_validate({"watch_seconds": 2, **settings}))
