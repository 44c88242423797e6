"""Hashed features, and the linear models over them: learnt from small made-up texts, and twins of their graphs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from tasks.contract.types import Arrays
from tasks.exporting.export import OPSET, silence
from usecases.nlp.baselines import CrfTagger, LinearText, fit_crf, fit_linear
from usecases.nlp.ngrams import BUCKETS, FEATURES, WORD_BUCKETS, encode_features, encode_ngrams
from usecases.nlp.scores import classification_scores, entity_scores
from usecases.nlp.sources import Item, Span
from usecases.nlp.tags import tag_names, tags_to_spans, viterbi
from usecases.nlp.texts import Texts, write_texts

TOPICS = {
    "food": ("soup", "bread", "tasty", "cook", "汤很好喝"),
    "travel": ("train", "hotel", "beach", "flight", "酒店很远"),
    "sport": ("goal", "match", "coach", "league", "比赛赢了"),
}
FILLERS = ("the", "a", "very", "today", "we", "was", "and", "with", "no", "👍🏽")
PEOPLE, PLACES = ("Ada Moreno", "Li Wei", "Tomas Berg", "温格", "彭小军"), ("Lisbon", "New Haven", "Oslo", "北京", "上海")
FRAMES = ("{} met us in {} today", "yesterday {} left for {} .", "{}住在{}，很远")
LABELS, TYPES = list(TOPICS), ["person", "place"]


def topical(count: int, random: np.random.Generator, multi: bool) -> list[Item]:
    """Texts of filler words with two words of each of their topics."""
    items = []
    for number in range(count):
        labels = [label for label in LABELS if random.random() < 0.5] if multi else [str(random.choice(LABELS))]
        chosen = [str(word) for label in labels for word in random.choice(TOPICS[label], 2)]
        text = " ".join(random.permutation([*chosen, *random.choice(FILLERS, 5)]))
        items.append(Item(f"line {number}", text, labels=tuple(labels)))
    return items


def peopled(count: int, random: np.random.Generator) -> list[Item]:
    """One person and one place in each text, in words and in Chinese."""
    items = []
    for number in range(count):
        frame = str(random.choice(FRAMES))
        before, between, _ = frame.split("{}")
        person, place = str(random.choice(PEOPLE)), str(random.choice(PLACES))
        start = len(before) + len(person) + len(between)
        spans = (Span(len(before), len(before) + len(person), "person"), Span(start, start + len(place), "place"))
        items.append(Item(f"line {number}", frame.format(person, place), spans=spans))
    return items


def prepared(folder: Path, task: str, multi: bool = False) -> Path:
    """What the data layer leaves behind."""
    random = np.random.default_rng(0)
    for split, count in {"train": 150, "validation": 40, "test": 40}.items():
        items = peopled(count, random) if task == "entities" else topical(count, random, multi)
        write_texts(folder / split, items, task == "entities")
    (folder / "assets").mkdir()
    card = {"task": task, "labels": TYPES if task == "entities" else LABELS, "multi": multi}
    (folder / "assets" / "labels.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["one label", "several"])
def topics(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LinearText]:
    """Prepared texts and the model that was learnt from them."""
    folder = prepared(tmp_path_factory.mktemp("topics") / "data", "classification", request.param)
    network = LinearText(len(LABELS), request.param)
    fit_linear(network, folder)
    return folder, network


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CrfTagger]:
    """Prepared texts and the tagger that was learnt from them."""
    folder = prepared(tmp_path_factory.mktemp("names") / "data", "entities")
    network = CrfTagger(TYPES)
    fit_crf(network, folder)
    return folder, network


def tensors(arrays: Arrays) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays.values()]


# -- features ------------------------------------------------------------------------------------------------------
def test_ngrams_of_a_short_text_by_hand() -> None:
    """Of "Ab ab": words ab twice, "ab ab"; of " ab ab ": a and b and ab and " a" ... twice, and so on."""
    found = encode_ngrams(["Ab\n ab"])
    assert found["ngrams"].dtype == np.int64 and found["counts"].dtype == np.float32
    padded = " ab ab "
    characters = {padded[i : i + n] for n in (1, 2, 3, 4) for i in range(len(padded) - n + 1)}
    assert (found["ngrams"] > 0).sum() == 2 + len(characters)
    assert found["counts"].sum() == 3 + sum(len(padded) - n + 1 for n in (1, 2, 3, 4))
    assert (found["ngrams"] % 2 == 1).sum() == 2, "words lie in odd buckets"


def test_padding_changes_nothing() -> None:
    texts = ["", "ok", "a much longer text with 中文 in it 👨‍👩‍👧", "\ud800"]
    together = encode_ngrams(texts)
    assert together["ngrams"].max() < BUCKETS
    for row, text in enumerate(texts):
        alone = encode_ngrams([text])
        width = alone["ngrams"].shape[1]
        assert (together["ngrams"][row, :width] == alone["ngrams"][0]).all() and not together["ngrams"][row, width:].any()
        assert (together["counts"][row, :width] == alone["counts"][0]).all() and not together["counts"][row, width:].any()


def test_every_word_has_as_many_features_wherever_the_text_stands() -> None:
    texts = ["", "Li met 温格 👍🏽!", "x", "\ud800 a\u0301"]
    arrays, offsets = encode_features(texts)
    assert arrays["features"].shape == (4, 6, FEATURES)
    assert arrays["features"].dtype == np.int64 and arrays["features"].max() < WORD_BUCKETS
    for row, (text, places) in enumerate(zip(texts, offsets, strict=True)):
        alone = encode_features([text])[0]["features"][0, : len(places)]
        assert (arrays["features"][row, : len(places)] == alone).all() and not arrays["features"][row, len(places) :].any()


def test_features_tell_of_neighbours() -> None:
    one, other = (encode_features([text])[0]["features"][0] for text in ("a b c d e f", "a b c d e X"))
    assert (one[:3] == other[:3]).all(), "three words away is out of reach"
    assert (one[3:5] != other[3:5]).any(axis=1).all()


def test_buckets_stay_what_they_are() -> None:
    """Models that were saved know features by these numbers."""
    assert sorted(encode_ngrams(["é"])["ngrams"][0].tolist()) == [139932, 505544, 594996, 597502, 645350, 1015495]
    assert encode_features(["é 1"])[0]["features"][0].sum(axis=1).tolist() == [61532130, 59328377]


# -- models --------------------------------------------------------------------------------------------------------
def test_the_linear_model_learns(topics: tuple[Path, LinearText]) -> None:
    folder, network = topics
    examples = Texts(folder / "test")
    rows = range(len(examples))
    probabilities = network(*tensors(encode_ngrams(examples.texts(rows)))).numpy()
    right = np.array([[label in given for label in LABELS] for given in examples.labels(rows)])
    scores = classification_scores(probabilities, right, network.multi, LABELS)
    assert scores["accuracy"] > 0.9
    assert scores["ece"] < 0.1
    assert network.multi or probabilities.sum(1) == pytest.approx(1, abs=1e-5)


def test_the_linear_model_is_tf_idf_by_hand(topics: tuple[Path, LinearText]) -> None:
    _, network = topics
    found = encode_ngrams(["soup soup soup with a zebra"])
    total, length = np.zeros(len(LABELS)), 0.0
    for bucket, count in zip(found["ngrams"][0], found["counts"][0], strict=True):
        row = int(network.remap[bucket])
        weight = (1 + np.log(count)) * float(network.idf[row])
        total += weight * network.weights[row].numpy()
        length += weight**2
    scores = total / np.sqrt(length) + network.bias.numpy()
    expected = 1 / (1 + np.exp(-scores)) if network.multi else np.exp(scores) / np.exp(scores).sum()
    assert network(*tensors(found))[0].numpy() == pytest.approx(expected, abs=1e-5)


def test_a_text_of_nothing_known_gets_an_answer(topics: tuple[Path, LinearText]) -> None:
    probabilities = topics[1](*tensors(encode_ngrams(["", "ψ"])))
    assert torch.isfinite(probabilities).all() and torch.allclose(probabilities[0], probabilities[1])


def test_two_classes_and_one_that_never_occurs(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data", "classification")
    for split in ("train", "validation"):
        items = [Item("", text, labels=("food" if "food" in given else "sport",)) for text, given in given_of(folder, split)]
        write_texts(folder / split, items, entities=False)
    for labels in (["food", "sport"], ["food", "never", "sport"]):
        (folder / "assets" / "labels.json").write_text(json.dumps({"task": "classification", "labels": labels, "multi": False}))
        network = LinearText(len(labels), multi=False)
        fit_linear(network, folder)
        found = network(*tensors(encode_ngrams(["tasty soup and bread", "the league and the coach"]))).argmax(1)
        assert [labels[i] for i in found] == ["food", "sport"]


def given_of(folder: Path, split: str) -> list[tuple[str, list[str]]]:
    examples = Texts(folder / split)
    rows = range(len(examples))
    return list(zip(examples.texts(rows), examples.labels(rows), strict=True))


def test_the_tagger_learns_names_in_words_and_in_chinese(names: tuple[Path, CrfTagger]) -> None:
    folder, network = names
    examples = Texts(folder / "test")
    rows = range(len(examples))
    arrays, offsets = encode_features(examples.texts(rows))
    scores, transitions = (output.numpy() for output in network(*tensors(arrays)))
    found = [tags_to_spans(viterbi(scores[row, : len(places)], transitions[row]), places, TYPES) for row, places in enumerate(offsets)]
    assert entity_scores(found, examples.spans(rows))["entity_f1"] > 0.95


def test_the_tagger_never_continues_what_is_not_there(names: tuple[Path, CrfTagger]) -> None:
    tags = tag_names(TYPES)
    transitions = names[1].steps.numpy()
    assert transitions[0, tags.index("I-place")] < -5_000
    assert transitions[1 + tags.index("B-person"), tags.index("I-place")] < -5_000
    assert transitions[1 + tags.index("B-person"), tags.index("I-person")] > -100


def test_a_fresh_network_loads_what_was_learnt(topics: tuple[Path, LinearText], names: tuple[Path, CrfTagger]) -> None:
    text = ["Ada Moreno likes soup in 北京"]
    for learnt, fresh, arrays in (
        (topics[1], LinearText(len(LABELS), topics[1].multi), encode_ngrams(text)),
        (names[1], CrfTagger(TYPES), encode_features(text)[0]),
    ):
        fresh.load_state_dict(learnt.state_dict())
        expected, found = learnt(*tensors(arrays)), fresh(*tensors(arrays))
        assert torch.equal(expected[0], found[0])


def exported(network: nn.Module, arrays: Arrays, path: Path) -> ort.InferenceSession:
    """The graph of a network whose batch and second axis vary."""
    shapes = (dict(enumerate([torch.export.Dim("batch"), torch.export.Dim("length")])),) * len(arrays)
    with silence():
        program = torch.onnx.export(
            network.eval(), tuple(tensors(arrays)), input_names=list(arrays), dynamic_shapes=shapes, opset_version=OPSET, dynamo=True
        )
    assert program is not None
    onnx.save(program.model_proto, str(path))
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def check_twin(network: nn.Module, session: ort.InferenceSession, arrays: Arrays) -> None:
    expected = network(*tensors(arrays))
    expected = expected if isinstance(expected, tuple) else (expected,)
    for one, other in zip(expected, session.run(None, arrays), strict=True):
        found = np.asarray(other)
        assert one.shape == found.shape
        assert np.abs(one.numpy() - found).max() < 1e-4


BATCHES = (["tasty soup", "Ada Moreno left for Oslo"], ["x"], [""], ["温格住在北京" * 20, "", "the coach 👍🏽"])


def test_the_graph_of_the_linear_model_is_its_twin(topics: tuple[Path, LinearText], tmp_path: Path) -> None:
    session = exported(topics[1], encode_ngrams(BATCHES[0]), tmp_path / "model.onnx")
    for texts in BATCHES:
        check_twin(topics[1], session, encode_ngrams(texts))


def test_the_graph_of_the_tagger_is_its_twin(names: tuple[Path, CrfTagger], tmp_path: Path) -> None:
    session = exported(names[1], encode_features(BATCHES[0])[0], tmp_path / "model.onnx")
    for texts in BATCHES:
        check_twin(names[1], session, encode_features(texts)[0])
