"""The search for the strongest compression: few attempts, each on the best network so far, within a budget of time, and cached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import compress as module
from tasks import store
from tasks.compress import Compression, compress
from tasks.compression.bisection import strongest
from tasks.compression.clustering import Clustering
from tasks.compression.pruning import Pruning
from tasks.compression.sparsity import Sparsification
from tasks.contract.artifacts import Checkpoint, Dataset, OnnxModel
from tasks.contract.errors import TrainingError
from tasks.export import export
from tasks.quantize import quantize
from tasks.settings import Budget, Fit
from tasks.shrink import shrink
from tasks.train import fit_network
from tests.toy import ToyUseCase

QUICK: dict[str, Any] = {"epochs": 4, "batch_size": 32, "learning_rate": 0.01, "prune": Pruning(shares=(0.25, 0.5, 0.75))}


def quick(**changes: Any) -> Compression:
    return Compression.model_validate(QUICK | changes)


LENIENT = Budget(max_loss=0.5)


@pytest.mark.parametrize("limit", [0.0, 0.2, 0.45, 0.5, 0.8, 1.0])
def test_the_strongest_level_is_found_by_bisection(limit: float) -> None:
    shares, asked = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], []

    def is_fine(share: float) -> bool:
        asked.append(share)
        return share <= limit

    assert strongest(shares, is_fine) == max((share for share in shares if share <= limit), default=None)
    assert asked[0] == 0.5 and len(asked) <= 3
    assert strongest([], is_fine) is None


@pytest.fixture(autouse=True)
def without_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of tasks without Prefect: outside of a flow each would need a server."""
    for verb in (quantize, export, shrink):
        monkeypatch.setattr(module, verb.fn.__name__, verb.fn)


@pytest.fixture(scope="module")
def trained() -> tuple[Checkpoint, OnnxModel, Dataset]:
    usecase = ToyUseCase(hidden=64)

    def build(folder: Path) -> dict[str, Any]:
        card = usecase.prepare(folder)
        (folder / "card.json").write_text(json.dumps(card))
        return {"usecase": usecase, "sizes": card["sizes"]}

    dataset, _ = store.make(Dataset, {"for": "compress"}, build)
    checkpoint = fit_network("fine_tune", usecase, dataset, Fit(epochs=20, batch_size=32, learning_rate=0.01, accelerator="cpu"))
    return checkpoint, export.fn(checkpoint, dataset), dataset


def labels(models: list[OnnxModel]) -> list[str]:
    return [model.label for model in models]


def test_without_epochs_the_network_is_only_quantised(trained: tuple[Checkpoint, OnnxModel, Dataset]) -> None:
    checkpoint, full, dataset = trained
    found = compress.fn(checkpoint, full, dataset, Compression(), LENIENT)
    assert found and all(label.startswith("int8") for label in labels(found))


def test_the_search_prunes_as_far_as_the_budget_allows_and_caches_attempts(
    trained: tuple[Checkpoint, OnnxModel, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, full, dataset = trained
    tried: list[str] = []
    monkeypatch.setattr(module, "remark", tried.append)
    found = compress.fn(checkpoint, full, dataset, quick(), LENIENT)
    assert [line.partition(":")[0] for line in tried] == ["pruned 50 %", "pruned 75 %"], "the middle share first, then a larger one"
    pruned = next(model for model in found if model.label == "pruned 75 %")
    assert pruned.role == "compressed" and pruned.megabytes < full.megabytes
    assert any(label.startswith("pruned 75 %, int8") for label in labels(found)), "and quantised"
    assert labels(found).index("pruned 50 %") < labels(found).index("pruned 75 %"), "the step on the way is a candidate, too"
    monkeypatch.setattr("tasks.training.launch.fit", None)  # a fit would fail now
    assert labels(compress.fn(checkpoint, full, dataset, quick(), LENIENT)) == labels(found)


def test_a_network_that_loses_too_much_is_not_tried_further(
    trained: tuple[Checkpoint, OnnxModel, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, full, dataset = trained
    tried: list[str] = []
    monkeypatch.setattr(module, "remark", tried.append)
    perfect = checkpoint.model_copy(update={"scores": {"accuracy": 2.0}})  # no other network can reach this score
    found = compress.fn(perfect, full, dataset, quick(), Budget(max_loss=0.1))
    assert [line.partition(":")[0] for line in tried] == ["pruned 50 %", "pruned 25 %"], (
        "the network itself is within the budget in int8: no recovery is necessary"
    )
    assert all("outside the budget" in line for line in tried)
    assert all(label.startswith("int8") for label in labels(found))


def test_a_network_that_loses_a_little_too_much_is_trained_further(
    trained: tuple[Checkpoint, OnnxModel, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, full, dataset = trained
    tried: list[str] = []

    def spoilt(name: str, *given: Any) -> Checkpoint:
        made = shrink.fn(name, *given)
        return made.model_copy(update={"scores": {"accuracy": checkpoint.scores["accuracy"] - 0.3}}) if name == "prune" else made

    monkeypatch.setattr(module, "remark", tried.append)
    monkeypatch.setattr(module, "shrink", spoilt)
    found = compress.fn(checkpoint, full, dataset, quick(), Budget(max_loss=0.1))
    assert [line.partition(":")[0] for line in tried] == ["pruned 50 %", "pruned 25 %", "pruned 25 % int8-aware"], "the smaller share"
    assert tried[1].endswith("may recover") and tried[2].endswith("within the budget")
    assert any(label.startswith("pruned 25 % int8-aware, int8") for label in labels(found))


def test_a_loss_that_is_not_significant_is_accepted(
    trained: tuple[Checkpoint, OnnxModel, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reported score loses more than the budget accepts, but the bundles on the same examples lose nothing."""
    checkpoint, full, dataset = trained
    tried: list[str] = []

    def unlucky(*given: Any) -> Checkpoint:
        return checkpoint.model_copy(update={"scores": {"accuracy": checkpoint.scores["accuracy"] - 0.015}})

    monkeypatch.setattr(module, "remark", tried.append)
    monkeypatch.setattr(module, "shrink", unlucky)
    compress.fn(checkpoint, full, dataset, quick(prune=Pruning(shares=(0.5,))), Budget(max_loss=0.01))
    assert tried[0].startswith("pruned 50 %: accuracy -0.0150") and tried[0].endswith("within the budget")


def test_named_methods_are_applied_in_their_order(trained: tuple[Checkpoint, OnnxModel, Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, full, dataset = trained
    tried: list[str] = []
    monkeypatch.setattr(module, "remark", tried.append)
    compression = quick(methods=("prune", "cluster"), prune=Pruning(shares=(0.5,)), cluster=Clustering(bits=(2,)))
    found = compress.fn(checkpoint, full, dataset, compression, LENIENT)
    assert [line.partition(":")[0] for line in tried] == ["pruned 50 %", "pruned 50 % clustered 2 bits"]
    assert "pruned 50 % clustered 2 bits" in labels(found)


def test_a_failed_attempt_is_reported_and_does_not_end_the_search(
    trained: tuple[Checkpoint, OnnxModel, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, full, dataset = trained
    tried: list[str] = []

    def fails(*given: object) -> None:
        raise TrainingError("The loss became nan at step 11.")

    monkeypatch.setattr(module, "remark", tried.append)
    monkeypatch.setattr(module, "shrink", fails)
    found = compress.fn(checkpoint, full, dataset, quick(), LENIENT)
    assert tried == [f"{name}: The loss became nan at step 11." for name in ("pruned 50 %", "pruned 25 %")]
    assert found and all(label.startswith("int8") for label in labels(found))


def test_a_limit_of_size_adds_pruning_of_weights_and_a_limit_of_time_ends_the_search(
    trained: tuple[Checkpoint, OnnxModel, Dataset],
) -> None:
    checkpoint, full, dataset = trained
    sizes = Budget(max_loss=0.5, objective="size")
    found = compress.fn(checkpoint, full, dataset, quick(prune=Pruning(shares=()), sparsify=Sparsification(shares=(0.6,))), sizes)
    assert "60 % zeros" in labels(found)
    ended = compress.fn(checkpoint, full, dataset, quick(search_minutes=1e-9), sizes)
    assert all(label.startswith("int8") for label in labels(ended))
