"""The contract of structured pruning on the networks of every vertical: smaller, consistent, recovered, and exportable."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tasks import store
from tasks.compression.pruning import (
    Pruning,
    StructuredPruning,
    as_tuple,
    dependencies,
    least_important,
    prunable_groups,
    prune_channels,
    shapes,
)
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.capabilities import resolved
from tasks.contract.errors import SettingError
from tasks.contract.usecase import UseCase
from tasks.exporting.export import export
from tasks.settings import Fit
from tasks.shrink import shrink
from tasks.train import fit_network
from tasks.training.batches import as_tensors
from tasks.training.checkpoints import load_network, resize
from tasks.training.predicting import torch_predict
from tests.tiers import matrix
from tests.toy import ToyUseCase
from usecases.driving_perception import DrivingPerception
from usecases.image_classification import ImageClassification
from usecases.nlp import TextClassification
from usecases.recommendation import Recommendation

SHARE = 0.5
TEXTS = TextClassification(width=32, depth=2, length=32, student=False)
LOG = Recommendation(length=10, width=32, student=False)
VERTICALS: list[UseCase] = [
    ToyUseCase(hidden=64),
    ImageClassification(width=16),
    DrivingPerception(channels=16, height=48, width=64),
    TEXTS,
    LOG,
]
NETWORKS: list[UseCase] = [
    *VERTICALS,
    ImageClassification(backbone="tiny:resnet"),
    ImageClassification(backbone="tiny:vit"),
    TEXTS.model_copy(update={"token_rank": 8}),
    LOG.model_copy(update={"item_rank": 8}),
]
RECURRENT: list[UseCase] = [TEXTS.model_copy(update={"model": "lstm"}), LOG.model_copy(update={"model": "gru4rec"})]


def name(usecase: UseCase) -> str:
    settings = {"backbone", "token_rank", "item_rank", "model"} & set(type(usecase).model_fields)
    return " ".join([usecase.name, *(str(value) for field in sorted(settings) if (value := getattr(usecase, field)))])


def prepared(usecase: UseCase) -> Dataset:
    def build(folder: Path) -> dict[str, Any]:
        card = usecase.prepare(folder)
        (folder / "card.json").write_text(json.dumps(card))
        return {"usecase": usecase, "sizes": card["sizes"]}

    dataset, _ = store.make(Dataset, {"for": "pruning", "usecase": usecase}, build)
    return dataset.model_copy(update={"usecase": resolved(usecase, dataset.card)})


def fresh(dataset: Dataset) -> nn.Module:
    """A network with running statistics as after training."""
    torch.manual_seed(0)
    usecase = dataset.usecase
    if (backbone := getattr(usecase, "backbone", "")).startswith("tiny:"):
        usecase = usecase.model_copy(update={"backbone": tiny(backbone.removeprefix("tiny:"))})
    network = usecase.network(dataset.assets)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network


@functools.cache
def tiny(kind: str) -> str:
    """The folder of a model of transformers with random weights."""
    from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

    folder = str(store.home() / f"tiny-{kind}")
    if kind == "resnet":
        ResNetModel(ResNetConfig(embedding_size=16, hidden_sizes=[64, 128], depths=[1, 2])).save_pretrained(folder)
    else:
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        ViTModel(ViTConfig(image_size=8, patch_size=4, **shape)).save_pretrained(folder)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return folder


def ready(usecase: UseCase) -> tuple[nn.Module, list[Tensor]]:
    """The predictor, and real inputs."""
    dataset = prepared(usecase)
    inputs = as_tensors(dataset.usecase.calibration_inputs(dataset.folder, np.arange(2)))
    return dataset.usecase.predictor(fresh(dataset)), [inputs[name] for name in dataset.usecase.input_names]


def kept(dataset: Dataset) -> Checkpoint:
    """A checkpoint of a network with random weights."""

    def build(work: Path) -> dict[str, Any]:
        save_file(fresh(dataset).state_dict(), work / "weights.safetensors")
        shutil.copytree(dataset.assets, work / "assets")
        facts = {"scores": {}, "seconds": 0, "epochs": 0, "precision": "32-true", "precision_gap": 0, "examples_per_second": 0}
        return {"usecase": dataset.usecase, **facts}

    return store.make(Checkpoint, {"name": "fine_tune", "of": dataset.digest}, build)[0]


def blanked(network: nn.Module, inputs: list[Tensor]) -> nn.Module:
    """The network with zeros in place of the channels that pruning removes; a pruned network must have the same outputs."""
    graph = dependencies(network, inputs)
    taken = [(root, least_important(scores, SHARE, unit)) for root, scores, unit in prunable_groups(graph)]
    with torch.no_grad():
        for root, channels in taken:
            for dep, indices in graph.get_pruning_group(root.target.module, root.handler, channels) if channels else ():
                for tensor in affected(dep):
                    tensor[indices] = 0
    return network


def affected(dep: Any) -> Iterator[Tensor]:
    """Weights with the channels of one dependency first."""
    layer = dep.target.module
    if isinstance(layer, nn.Linear | nn.Conv2d) and "in_channels" in dep.handler.__name__:
        yield layer.weight.transpose(0, 1)
    elif isinstance(layer, nn.Linear | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d):
        yield from (tensor for tensor in (layer.weight, layer.bias) if tensor is not None)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("usecase", matrix(NETWORKS, keep=5), ids=name)
def test_a_pruned_network_has_the_outputs_of_one_with_zeros_instead(usecase: UseCase) -> None:
    """So only complete channels are removed; and `resize` gives a network of the old sizes the new ones."""
    network, inputs = ready(usecase)
    before, whole = shapes(network, inputs), size(network)
    twin, other = blanked(copy.deepcopy(network), inputs).eval(), copy.deepcopy(network)
    network.train()
    prune_channels(network, inputs, SHARE)
    assert network.training
    assert size(network) < 0.8 * whole
    assert shapes(network, inputs) == before
    resize(other, network.state_dict())
    other.load_state_dict(network.state_dict())
    assert str(other) == str(network), "the modules know their sizes"
    with torch.no_grad():
        found, expected, loaded = (as_tuple(each.eval()(*inputs)) for each in (network, twin, other))
    for one, wanted, again in zip(found, expected, loaded, strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-4, atol=1e-4)
        assert torch.equal(one, again)


@pytest.mark.parametrize("usecase", matrix(VERTICALS, keep=2), ids=name)
def test_a_pruned_checkpoint_is_loaded_and_exported_like_any_other(usecase: UseCase, tmp_path: Path) -> None:
    dataset = prepared(usecase)
    whole = kept(dataset)
    untouched = store.content_digest(whole.folder)
    pruned = shrink.fn("prune", Pruning(), SHARE, whole, whole, dataset, Fit(epochs=1, batch_size=32, learning_rate=1e-3, max_minutes=0.02))
    assert store.content_digest(whole.folder) == untouched
    assert whole.digest in pruned.made_from
    network = load_network(pruned)
    assert size(network) < 0.8 * size(load_network(whole))
    scores = pruned.usecase.score(torch_predict(pruned.usecase, network), dataset.folder, "validation")
    assert scores == pytest.approx(pruned.scores, abs=1e-4)
    export(pruned, dataset, tmp_path, "pruned")  # refuses a fixed axis and outputs that differ from torch
    assert (tmp_path / "model.onnx").exists()


@pytest.fixture(scope="module")
def toy() -> tuple[Dataset, Checkpoint]:
    dataset = prepared(ToyUseCase(hidden=64))
    return dataset, fit_network("fine_tune", dataset.usecase, dataset, Fit(epochs=8, batch_size=32, learning_rate=0.02))


def test_pruning_in_rounds_keeps_the_quality(toy: tuple[Dataset, Checkpoint]) -> None:
    dataset, whole = toy
    pruned = shrink.fn("prune", Pruning(rounds=2), 0.75, whole, whole, dataset, Fit(epochs=6, batch_size=32, learning_rate=0.01))
    assert load_network(pruned).get_submodule("head").in_features == 16
    assert pruned.scores["accuracy"] > whole.scores["accuracy"] - 0.05


def test_the_same_seed_gives_the_same_weights(toy: tuple[Dataset, Checkpoint]) -> None:
    dataset, whole = toy
    technique = StructuredPruning(trained=whole, teacher=whole, share=SHARE)
    both = [fit_network(name, dataset.usecase, dataset, Fit(epochs=1), technique=technique) for name in ("once", "again")]
    assert len({store.file_digest(each.folder / "weights.safetensors") for each in both}) == 1


@pytest.mark.parametrize("usecase", RECURRENT, ids=name)
def test_recurrent_layers_are_refused_with_a_reason(usecase: UseCase) -> None:
    with pytest.raises(SettingError, match="recurrent layers are not pruned"):
        prune_channels(*ready(usecase), SHARE)


def test_a_layer_keeps_a_multiple_of_16_channels_and_loses_whole_heads() -> None:
    with pytest.raises(SettingError, match="each layer keeps a multiple of 16 channels"):
        prune_channels(*ready(ToyUseCase(hidden=8)), SHARE)
    assert len(least_important(torch.rand(40), 0.99)) == 24
    assert least_important(torch.tensor([5.0, 5, 1, 1, 3, 3]), 0.4, unit=2) == [2, 3]
