"""Checks of a use case against its contract, for your own use cases, too; like scikit-learn's `check_estimator`.

    from tasks.checks import check_usecase
    check_usecase(MyUseCase(width=8))

With pytest, one test case per check:

    @pytest.fixture(scope="module")
    def checked(tmp_path_factory):
        return prepare_for_checks(usecase, tmp_path_factory.mktemp("checks"))

    @pytest.mark.parametrize("check", checks_of(usecase), ids=lambda check: check.__name__)
    def test_contract(check, checked):
        check(checked)

A failed check raises `ContractError` with what was expected, what was found and what to do.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tasks import store
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.blocks import AnswerBlock, kinds
from tasks.contract.capabilities import (
    Adaptable,
    Attributable,
    Computed,
    Distillable,
    Explainable,
    HasBaselines,
    HasFigures,
    HasHiddenStates,
    HasStatistics,
    Pretrainable,
    resolved,
)
from tasks.contract.codec import Takes
from tasks.contract.errors import BundleError, ContractError
from tasks.contract.records import read_typed
from tasks.contract.types import Split
from tasks.contract.usecase import UseCase
from tasks.settings import Fit

PROJECT = Path(__file__).parents[1]
SPLITS: tuple[Split, ...] = get_args(Split)
QUICK = Fit(epochs=2, batch_size=32, learning_rate=0.01, accelerator="cpu")
JUNK: tuple[Any, ...] = (
    *(b"", b"\x89PNG junk", "", "\x00", "x" * 100_000, None, True, 3, -1.5, 10**400, math.nan, math.inf),
    *([], [[]], [True], [math.nan], [10**400], [None], {}, {"history": 3}, {"history": [True, math.nan]}, {"b64": "?"}, {"": {"": []}}),
)
WHOLE = ("__dict__", "model_dump", "model_dump_json", "settings")  # by which all settings are read at once
START_SECONDS = 60
MAX_DIFFERENCE = 1e-3  # between the scores of torch and of the exported graph


@dataclass
class Checked:
    """A use case with its prepared data, a folder for the files of checks, and results that later checks use (`made`)."""

    usecase: UseCase
    dataset: Dataset
    folder: Path
    made: dict[str, Any] = field(default_factory=dict)


Check = Callable[[Checked], None]


def check_usecase(usecase: UseCase) -> None:
    """Run all checks of the core contract and of the capabilities of a use case.

    Args:
        usecase: with settings that train quickly, since it is trained twice.

    Raises:
        ContractError: a check failed; the message says what was expected and what was found.
    """
    with tempfile.TemporaryDirectory() as folder:
        checked = prepare_for_checks(usecase, Path(folder))
        for check in checks_of(usecase):
            check(checked)


def checks_of(usecase: UseCase) -> list[Check]:
    """The checks of the core contract and of the capabilities that a use case has."""
    return [*CORE, *(check for capability, check in CAPABILITIES if isinstance(usecase, capability))]


def prepare_for_checks(usecase: UseCase, folder: Path) -> Checked:
    """Prepare the data of a use case below a folder.

    Raises:
        ContractError: `prepare` reads a setting that is not declared with `prepare=True`.
    """
    read: set[str] = set()

    class Watched(type(usecase)):  # the same use case, which also records which settings are read
        __qualname__, __doc__ = type(usecase).__qualname__, type(usecase).__doc__

        def __getattribute__(self, name: str) -> Any:
            if name in type(usecase).model_fields:
                read.add(name)
            elif name in WHOLE and not sys._getframe(1).f_globals.get("__name__", "").startswith("pydantic"):
                read.update(type(usecase).model_fields)
            return super().__getattribute__(name)

        def __iter__(self) -> Any:
            read.update(type(usecase).model_fields)
            return super().__iter__()

    (data := folder / "data").mkdir(parents=True)
    settings = {name: getattr(usecase, name) for name in type(usecase).model_fields}
    watched = Watched(**settings)  # pyright: ignore[reportAbstractUsage]
    read.clear()  # of its validators
    card = watched.prepare(data)
    undeclared = sorted(read - usecase.prepare_settings())
    _expect(
        not undeclared,
        f"prepare reads {', '.join(undeclared)}, declared without prepare=True: if it changed, the data would not be prepared again.",
    )
    (data / "card.json").write_text(json.dumps(card), encoding="utf-8")
    whole = resolved(usecase, card)
    return Checked(whole, Dataset(digest=store.content_digest(data), usecase=whole, sizes=card["sizes"]).at(data), folder)


# -- the core -----------------------------------------------------------------------------------------------------------
def check_settings(checked: Checked) -> None:
    """Settings come back from JSON as the class and the values that they were."""
    usecase = checked.usecase
    again = read_typed(json.loads(json.dumps(usecase.settings())))
    _expect(again == usecase and type(again) is type(usecase), f"{usecase!r} came back from JSON as {again!r}.")
    _expect(usecase.name.isidentifier(), f"name is {usecase.name!r}; letters, digits and underscores were expected.")
    _expect(
        bool(usecase.input_names and usecase.output_names),
        "input_names or output_names is empty; name the inputs and outputs of the exported graph.",
    )


def check_card(checked: Checked) -> None:
    """The data card has the layout, the sizes of all splits and the findings; no split is empty, and a batch has the network's inputs."""
    card, usecase = checked.dataset.card, checked.usecase
    missing = {"layout", "sizes", "findings"} - card.keys()
    _expect(not missing, f"The card of the data has no {', '.join(sorted(missing))}.")
    for split in SPLITS:
        found, size = len(usecase.examples(checked.dataset.folder, split)), card["sizes"].get(split, 0)
        _expect(found > 0 and size > 0, f"The {split} split has {found} examples to train on or score; the card says {size}.")
    batch = usecase.examples(checked.dataset.folder, "test").batch(np.arange(2))
    _expect(all(len(array) == 2 for array in batch.values()), f"A batch of two has { ({name: len(a) for name, a in batch.items()}) } rows.")
    _expect(not set(usecase.input_names) - batch.keys(), f"A batch has {sorted(batch)}; the network takes {usecase.input_names}.")
    _expect(checked.dataset.assets.is_dir(), "prepare has to write a folder assets/; there is none.")


def check_digests(checked: Checked) -> None:
    """The digest of the data is stable, and preparing the same data twice gives the same files, byte for byte."""
    usecase = checked.usecase
    _expect(usecase.data_digest() == usecase.data_digest(), "data_digest gives another value for the same data.")
    (again := checked.folder / "again").mkdir()
    (again / "card.json").write_text(json.dumps(usecase.prepare(again)), encoding="utf-8")
    _expect(
        store.content_digest(again) == checked.dataset.digest,
        "prepare wrote different files for the same data: fix its seeds and the order of files.",
    )


def check_store(checked: Checked) -> None:
    """A step of the use case has a key: its result is found in the store again, also by a record of the use case that comes from JSON."""
    usecase, before = checked.usecase, os.environ.get("VERTICALS_HOME")

    def build(folder: Path) -> dict[str, Any]:
        (folder / "card.json").write_text(json.dumps(checked.dataset.card), encoding="utf-8")
        return {"usecase": usecase, "sizes": checked.dataset.sizes}

    os.environ["VERTICALS_HOME"] = str(checked.folder / "store")
    try:
        found = [
            store.make(Dataset, {"usecase": one}, build)[1] for one in (usecase, read_typed(json.loads(json.dumps(usecase.settings()))))
        ]
    finally:
        os.environ.pop("VERTICALS_HOME") if before is None else os.environ.update(VERTICALS_HOME=before)
    _expect(
        found == [False, True],
        "A step of the use case is not found in the store again: a setting has another value each time, or its module was edited during this run.",
    )


def check_monitor(checked: Checked) -> None:
    """`score` gives the monitored score, whatever the network."""
    from tasks.training.predicting import torch_predict

    usecase, data = checked.usecase, checked.dataset.folder
    scores = usecase.score(torch_predict(usecase, usecase.network(checked.dataset.assets).eval()), data, "validation")
    _expect(usecase.monitor in scores, f"score gives {sorted(scores)}; the monitored {usecase.monitor!r} is not among them.")


def check_resuming(checked: Checked) -> None:
    """A fit that was killed and resumed ends with the same weights as an uninterrupted one, bit for bit."""
    from tasks.training import launch

    work = checked.folder / "fit"
    launch.fit(checked.usecase, checked.dataset.folder, QUICK, work)
    whole = store.file_digest(work / "weights.safetensors")
    (work / "weights.safetensors").unlink()
    max((work / ".work" / "checkpoints").glob("step-*.pt")).unlink()  # as if it had been killed before its end
    outcome = launch.fit(checked.usecase, checked.dataset.folder, QUICK, work)
    resumed = store.file_digest(work / "weights.safetensors")
    _expect(resumed == whole, "A resumed fit ended with other weights: draw all random numbers of network and loss from torch.")
    checked.made["checkpoint"] = Checkpoint(
        digest=resumed, usecase=checked.usecase, **outcome.model_dump(exclude={"ranks", "batch_size"})
    ).at(work)  # fmt: skip


def check_scores(checked: Checked) -> None:
    """`score` returns finite numbers, including the monitored score."""
    usecase, scores = checked.usecase, _checkpoint(checked).scores
    _expect(usecase.monitor in scores, f"score returns {sorted(scores)}; the monitored {usecase.monitor!r} is not among them.")
    infinite = {name: value for name, value in scores.items() if not math.isfinite(value)}
    _expect(not infinite, f"score returns {infinite}; finite numbers were expected.")


def check_bundle(checked: Checked) -> None:
    """The exported graph has the same outputs and scores as torch; the bundle answers its example in JSON, and its blocks can be drawn."""
    from tasks.exporting.export import export
    from tasks.serving.bundle import open_bundle
    from tasks.training.checkpoints import load_network
    from tasks.training.predicting import torch_predict

    usecase, data, checkpoint = checked.usecase, checked.dataset.folder, _checkpoint(checked)
    (work := checked.folder / "bundle").mkdir()
    export(checkpoint, checked.dataset, work)
    bundle = checked.made["bundle"] = open_bundle(work)
    for split in ("validation", "test"):
        torch = usecase.score(torch_predict(usecase, load_network(checkpoint)), data, split)[usecase.monitor]
        graph = usecase.score(bundle.predict, data, split)[usecase.monitor]
        _expect(
            abs(torch - graph) <= MAX_DIFFERENCE,
            f"On {split}, {usecase.monitor} is {torch:.4f} by torch and {graph:.4f} by the exported graph.",
        )
    answer = bundle.answer([bundle.example_request()] * 2)
    _expect(len(answer) == 2 and answer[0] == answer[1], "The same request twice in a batch is answered differently.")
    _expect(
        json.loads(json.dumps(answer[0])) == json.loads((work / "example" / "answer.json").read_text()),
        "The bundle's answer to its example differs from example/answer.json: answers have to be deterministic.",
    )
    blocks = bundle.blocks(bundle.example_request(), answer[0])
    _expect(
        bool(blocks) and json.loads(json.dumps(blocks)) == blocks,
        "The codec's blocks of an answer have to be JSON values, and at least one block was expected.",
    )
    unknown = [block["kind"] for block in blocks if block["kind"] not in kinds(AnswerBlock)]
    _expect(not unknown, f"The codec's blocks have the kinds {unknown}; one of {', '.join(kinds(AnswerBlock))} was expected.")
    _draw(blocks)


def check_bad_requests(checked: Checked) -> None:
    """A malformed request is refused with `BundleError`, never with another error."""
    codec = _bundle(checked).codec
    _expect(codec.takes in get_args(Takes), f"The codec takes {codec.takes!r}; one of {', '.join(get_args(Takes))} was expected.")
    for junk in JUNK:
        try:
            codec.encode([junk])
        except BundleError as error:
            _expect(bool(str(error)), f"The request {junk!r:.60} is refused without a message.")
        except Exception as error:
            raise ContractError(f"The request {junk!r:.60} raises {type(error).__name__}: {error}. Raise BundleError instead.") from error


def check_server(checked: Checked) -> None:
    """The server answers the example as the bundle does, and malformed requests with 4xx."""
    bundle = _bundle(checked)
    example = next((bundle.folder / "example").glob("request.*"))
    kind = {".json": "application/json", ".txt": "text/plain"}.get(example.suffix, "application/octet-stream")
    with _server(bundle.folder) as address:
        name = json.loads(_get(f"{address}/v1/models")[1])[0]["name"]
        where = f"{address}/v1/models/{name}:predict"
        status, body = _get(where, example.read_bytes(), kind)
        expected = json.loads((bundle.folder / "example" / "answer.json").read_text(encoding="utf-8"))
        found = {key: value for key, value in json.loads(body).items() if key not in ("model", "version")}
        _expect(status == 200 and found == expected, f"The server answers the example with {status} {body[:200]!r}.")
        for junk in (b"\x00junk", b"{", b"[1, {}]"):
            status, body = _get(where, junk, kind)
            _expect(status == 200 or 400 <= status < 500, f"The server answers the request {junk!r} with {status} {body[:200]!r}.")


# -- capabilities -------------------------------------------------------------------------------------------------------
def check_pretraining(checked: Checked) -> None:
    """Both networks have a `backbone`, and weights of the pretrained one fit the other."""
    broad = checked.usecase.pretraining() if isinstance(checked.usecase, Pretrainable) else None
    for usecase in filter(None, (checked.usecase, broad)):
        network = usecase.network(checked.dataset.assets)
        _expect(hasattr(network, "backbone"), f"The network of {usecase.name} has no attribute backbone, whose weights pretraining copies.")
    if broad is not None:
        own, other = (usecase.network(checked.dataset.assets).backbone.state_dict() for usecase in (checked.usecase, broad))  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        fitting = [name for name, value in other.items() if name in own and own[name].shape == value.shape]
        _expect(bool(fitting), "No weight of the pretrained backbone fits the one that is fine-tuned.")


def check_focus(checked: Checked) -> None:
    """`focus` returns indices of the training split, or None."""
    assert isinstance(checked.usecase, Adaptable)
    rows, count = checked.usecase.focus(checked.dataset.folder), checked.dataset.sizes["train"]
    _expect(rows is None or bool(((rows >= 0) & (rows < count)).all()), f"focus returns indices outside of the {count} training examples.")


def check_baselines(checked: Checked) -> None:
    """Each baseline is `Computed`, and has the monitored score."""
    from tasks.training.computed import compute

    assert isinstance(checked.usecase, HasBaselines)
    for name, baseline in checked.usecase.baselines().items():
        _expect(isinstance(baseline, Computed), f"The baseline {name} is not Computed.")
        (work := checked.folder / f"baseline {name}").mkdir()
        scores = compute(baseline, checked.dataset, work)["scores"]
        _expect(
            math.isfinite(scores.get(checked.usecase.monitor, math.nan)),
            f"The scores of the baseline {name} are {scores}; a finite {checked.usecase.monitor} was expected.",
        )


def check_distillation(checked: Checked) -> None:
    """The student is smaller than its teacher, and the distillation loss gives it a gradient."""
    from tasks.training.batches import as_tensors
    from tasks.training.checkpoints import load_network

    usecase = checked.usecase
    assert isinstance(usecase, Distillable)
    smaller = usecase.student_usecase()
    if smaller is None:
        return
    assets, teacher = checked.dataset.assets, load_network(_checkpoint(checked)).requires_grad_(False)
    student = smaller.network(assets)
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in (student, teacher)]
    _expect(sizes[0] < sizes[1], f"The student has {sizes[0]:,} parameters, its teacher {sizes[1]:,}; fewer were expected.")
    usecase.initialise_student(student, teacher)
    batch = as_tensors(usecase.examples(checked.dataset.folder, "train").batch(np.arange(8)))
    loss = smaller.distillation_loss(student, teacher, batch, 0.5, 2.0) if isinstance(smaller, Distillable) else None
    _expect(
        loss is not None and loss.ndim == 0 and math.isfinite(float(loss)),
        f"The distillation loss is {loss}; a finite scalar was expected.",
    )
    assert loss is not None
    loss.backward()
    _expect(any(parameter.grad is not None for parameter in student.parameters()), "The distillation loss gives the student no gradient.")


def check_hidden_states(checked: Checked) -> None:
    """`hidden_layers` and `attention_layers` return modules of the network."""
    assert isinstance(checked.usecase, HasHiddenStates)
    network = checked.usecase.network(checked.dataset.assets)
    layers = [*checked.usecase.hidden_layers(network), *checked.usecase.attention_layers(network)]
    known = set(network.modules())
    _expect(all(layer in known for layer in layers), "hidden_layers or attention_layers return modules that are not in the network.")


def check_statistics(checked: Checked) -> None:
    """The monitored score follows from the per-example statistics."""
    usecase, bundle = checked.usecase, _bundle(checked)
    assert isinstance(usecase, HasStatistics)
    for split in ("validation", "test"):
        found = usecase.statistics(bundle.predict, checked.dataset.folder, split)
        if found is not None:
            score = usecase.score(bundle.predict, checked.dataset.folder, split)[usecase.monitor]
            value = float(found.value(found.counts.mean(0)))
            _expect(
                abs(score - value) < MAX_DIFFERENCE,
                f"On {split}, {usecase.monitor} is {score:.4f}, but {value:.4f} follows from its statistics.",
            )


def check_explanations(checked: Checked) -> None:
    """The answer to the example can be explained, in JSON."""
    bundle = _bundle(checked)
    json.dumps(bundle.explain(bundle.example_request()))


def check_figures(checked: Checked) -> None:
    """The blocks of `figures` can be drawn."""
    assert isinstance(checked.usecase, HasFigures)
    _draw(checked.usecase.figures(_bundle(checked).predict, checked.dataset.folder).get("blocks", []))


def check_attributions(checked: Checked) -> None:
    """The blocks of `attributions` can be drawn."""
    from tasks.training.checkpoints import load_network

    assert isinstance(checked.usecase, Attributable)
    _draw(checked.usecase.attributions(load_network(_checkpoint(checked)), checked.dataset.folder))


CORE: tuple[Check, ...] = (
    *(
        check_settings,
        check_card,
        check_digests,
        check_store,
        check_monitor,
        check_resuming,
        check_scores,
        check_bundle,
        check_bad_requests,
        check_server,
    ),
)
CAPABILITIES: tuple[tuple[type, Check], ...] = (
    (Pretrainable, check_pretraining),
    (Adaptable, check_focus),
    (HasBaselines, check_baselines),
    (Distillable, check_distillation),
    (HasHiddenStates, check_hidden_states),
    (HasStatistics, check_statistics),
    (Explainable, check_explanations),
    (HasFigures, check_figures),
    (Attributable, check_attributions),
)


# -- helpers --------------------------------------------------------------------------------------------------------------
def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise ContractError(message)


def _checkpoint(checked: Checked) -> Checkpoint:
    if "checkpoint" not in checked.made:
        check_resuming(checked)
    return checked.made["checkpoint"]


def _bundle(checked: Checked) -> Any:
    if "bundle" not in checked.made:
        check_bundle(checked)
    return checked.made["bundle"]


def _draw(listed: Sequence[Mapping[str, Any]]) -> None:
    from tasks.reporting import blocks

    for block in json.loads(json.dumps(listed)):
        try:
            blocks.draw(block)
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"The block {block.get('title', block)!r:.100} cannot be drawn: {type(error).__name__} {error}.") from error


@contextmanager
def _server(bundle: Path) -> Iterator[str]:
    """Serve a bundle in a separate process; yields the address of the server."""
    command = [sys.executable, "-m", "tasks.serving", str(bundle), "--port", "0"]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        _expect(" at http" in line, f"The server did not start: {line!r}.")
        yield line.partition(" at ")[2].partition(" ")[0]
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _get(address: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, {"Content-Type": kind}), timeout=START_SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
