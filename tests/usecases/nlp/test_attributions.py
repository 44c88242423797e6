"""What a network looks at: gradients add up, attention is what the network really uses, and the report can draw both."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from tasks.reporting.blocks import draw
from usecases.nlp import EntityRecognition, TextClassification
from usecases.nlp.attributions import attention, integrated_gradients
from usecases.nlp.network import TextNetwork
from usecases.nlp.windows import read_tokenizer
from usecases.transformer import Attention

SMALL: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "length": 64, "vocabulary": 600}
KINDS = {
    "transformer": TextClassification(**SMALL),
    "narrow tokens": TextClassification(**SMALL, token_rank=8),
    "lstm": TextClassification(**SMALL, model="lstm"),
    "entities": EntityRecognition(**SMALL, task="entities"),
}


@pytest.fixture(scope="module", params=KINDS)
def read(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TextNetwork, Path]:
    usecase, folder = KINDS[request.param], tmp_path_factory.mktemp("texts")
    usecase.prepare(folder)
    torch.manual_seed(0)
    network = usecase.network(folder / "assets").eval()
    nn.init.normal_(cast(Any, network).head.weight)
    return usecase, cast(TextNetwork, network), folder


def test_gradients_add_up_to_what_the_words_change(read: tuple[Any, TextNetwork, Path]) -> None:
    usecase, network, folder = read
    tokenizer = read_tokenizer(folder / "assets")
    tokens = torch.from_numpy(tokenizer.batch([tokenizer.encode(["please send the money back to Oslo"])[0].numbers]))
    hidden = tokens.clone()
    hidden[:, 1:-1] = tokenizer.mask
    target = (2, 1) if isinstance(usecase, EntityRecognition) else (1,)
    with torch.no_grad():
        changed = (network(tokens) - network(hidden))[(0, *target)]
    found = integrated_gradients(network, tokens, tokenizer.mask, target)
    assert found.shape == tokens.shape[1:] and found[[0, -1]].abs().max() < 1e-6
    assert float(found.sum()) == pytest.approx(float(changed), abs=0.05 * max(1.0, abs(float(changed))))


def test_attention_is_what_the_network_uses() -> None:
    layer, x = Attention(16, 4), torch.randn(2, 5, 16)
    visible = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)[:, None, None, :]
    weights = layer.weights(x, x, visible)
    value = layer.key_value(x)[..., 16:].view(2, 5, 4, 4).transpose(1, 2)
    assert torch.allclose(layer.outward((weights @ value).transpose(1, 2).flatten(2)), layer(x, x, visible), atol=1e-5)


def test_the_report_draws_what_is_seen(read: tuple[Any, TextNetwork, Path]) -> None:
    usecase, network, folder = read
    blocks = usecase.attributions(network, folder)
    words, *matrices = blocks
    assert len(words["items"]) == 6
    assert all(0 <= mark["start"] < mark["end"] <= len(item["text"]) for item in words["items"] for mark in item["marks"])
    assert len(matrices) == (0 if usecase.model == "lstm" else 2)
    assert all(abs(sum(row) - 100) <= len(row) for matrix in matrices for row in matrix["values"])
    assert all("<" in draw(block) for block in blocks)


def test_an_lstm_has_no_attention(read: tuple[Any, TextNetwork, Path]) -> None:
    usecase, network, _ = read
    assert (attention(network, torch.tensor([[2, 7, 3]])) is None) == (usecase.model == "lstm")
