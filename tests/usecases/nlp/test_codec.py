"""Between texts and arrays: words and characters are where they were, whatever the script; long texts lose nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.contract.errors import BundleError
from tasks.contract.types import Arrays
from tests.reporting.answers import drawn_everywhere
from usecases.nlp import EntityRecognition, TextClassification
from usecases.nlp.codec import MAX_CHARACTERS, NetworkClassCodec, NetworkEntityCodec
from usecases.nlp.explaining import explain_class, explain_entities, shapley
from usecases.nlp.tokenizer import TextTokenizer, merged, windows_of

SMALL: dict[str, Any] = {"width": 32, "depth": 1, "heads": 2, "length": 12, "vocabulary": 600}
TEXTS = ["Anna flew to Oslo 😀 today.", "王小明去了北京。", "  mixed 北京 and e\u0301clair\r\n👩‍👩‍👧 family ", "", "a" * 300]


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    TextClassification(**SMALL).prepare(folder)
    return folder / "assets"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    EntityRecognition(**SMALL, task="entities").prepare(folder)
    return folder / "assets"


def test_words_are_where_they_are_in_the_text(names: Path) -> None:
    tokenizer = TextTokenizer(names)
    for text, tokens in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        found = [text[start:end] for start, end in tokens.words[tokens.first]]
        assert "".join(found) == "".join(text.split())
    chinese = tokenizer.encode([TEXTS[1]])[0]
    assert [TEXTS[1][start:end] for start, end in chinese.words[chinese.first]] == list(TEXTS[1])


@pytest.mark.parametrize("count", [0, 1, 10, 11, 25, 100])
def test_windows_cover_every_token_and_fit(count: int) -> None:
    windows = windows_of(count, 10, 3)
    assert windows[0].start == 0 and windows[-1].stop == count
    assert all(window.stop - window.start <= 10 for window in windows)
    assert all(after.start <= before.stop - 3 for before, after in pairwise(windows))


def test_an_overlap_is_answered_by_the_window_with_more_context() -> None:
    windows = windows_of(14, 10, 3)
    values = [np.full((10, 1), float(number)) for number in range(2)]
    found = merged(14, windows, values)[:, 0]
    assert found.tolist() == sorted(found.tolist()) and set(found) == {0.0, 1.0}
    assert found[4] == 0 and found[10] == 1


def test_a_long_texts_classes_are_the_mean_over_its_windows(classes: Path) -> None:
    codec = NetworkClassCodec(classes, TextClassification(**SMALL))
    texts = ["short one", "word " * 40]
    rows = len(codec.encode(texts)["tokens"])
    assert rows > 2
    probabilities = np.zeros((rows, len(codec.labels)), dtype=np.float32)
    probabilities[0, 0] = 1
    probabilities[1:, 1] = 1
    assert codec.probabilities({"probabilities": probabilities}, texts).argmax(1).tolist() == [0, 1]
    first = codec.decode({"probabilities": probabilities}, texts)[0]
    assert first["label"] == codec.labels[0] and first["top"][0]["probability"] == 1


def test_entities_go_on_over_windows_and_never_begin_inside(names: Path) -> None:
    codec = NetworkEntityCodec(names, EntityRecognition(**SMALL))
    text = " ".join(["then"] * 9 + ["Anna", "Berg"] + ["left"] * 9)
    outputs = entity_outputs(codec, [text], {"Anna": 1, "Berg": 2})
    assert [(e["text"], e["label"]) for e in codec.decode(outputs, [text])[0]["entities"]] == [("Anna Berg", codec.labels[0])]
    inside = codec.decode(entity_outputs(codec, [text], {"Berg": 2}), [text])[0]["entities"]
    assert [e["text"] for e in inside] == ["Anna Berg"], "an inside needs its beginning"
    (answer,) = codec.decode(outputs, [text])
    shown = drawn_everywhere(codec.blocks(text, answer))
    assert shown.startswith("1 entity") and f"then Anna Berg [{codec.labels[0]} 1" in shown
    assert drawn_everywhere(codec.blocks(text, {"entities": []})).startswith("No entities")


def entity_outputs(codec: NetworkEntityCodec, texts: list[str], tags: dict[str, int]) -> Arrays:
    """The scores of a network that tags some words."""
    size = 1 + 2 * len(codec.labels)
    inputs = codec.encode(texts)["tokens"]
    scores = np.zeros((*inputs.shape, size), dtype=np.float32)
    scores[..., 0] = 1.0
    tokens, windows = codec.windowed(texts)
    for row, window in enumerate(windows):
        its_tokens = tokens[window.text]
        for place in range(window.start, window.stop):
            start, end = its_tokens.words[place]
            tag = tags.get(texts[window.text][start:end])
            if tag:
                scores[row, 1 + place - window.start, tag] = 9.0
    return {"scores": scores, "transitions": np.zeros((len(scores), size + 1, size), dtype=np.float32)}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (7, "Text 2 of the request is not a text: 7"),
        ({"txt": "a"}, "is not a text"),
        ("a" * (MAX_CHARACTERS + 1), "at most 100,000 are allowed"),
    ],
)
def test_a_request_that_is_not_a_text_is_refused(request_: Any, words: str, classes: Path) -> None:
    with pytest.raises(BundleError) as caught:
        NetworkClassCodec(classes, TextClassification(**SMALL)).encode(["fine", request_])
    assert words in str(caught.value)


def test_any_string_is_answered(classes: Path) -> None:
    codec = NetworkClassCodec(classes, TextClassification(**SMALL))
    texts = ["", " ", "\ud83d", "\x00", *TEXTS]
    rows = len(codec.encode(texts)["tokens"])
    uniform = np.full((rows, len(codec.labels)), 1 / len(codec.labels), dtype=np.float32)
    assert len(codec.decode({"probabilities": uniform}, texts)) == len(texts)


def test_a_file_or_the_text_itself_is_read(classes: Path, tmp_path: Path) -> None:
    codec = NetworkClassCodec(classes, TextClassification(**SMALL))
    (tmp_path / "a.txt").write_bytes("\ufeffschön\n".encode())
    assert codec.read(str(tmp_path / "a.txt")) == "schön"
    assert codec.read("no such file") == "no such file"
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BundleError, match="not text in UTF-8"):
        codec.read(str(tmp_path / "b.txt"))


def test_an_explanation_finds_the_word_that_decides(classes: Path) -> None:
    codec = NetworkClassCodec(classes, TextClassification(**{**SMALL, "length": 64}))
    mark = codec.windowed.tokenizer.encode(["money"])[0].numbers[0]

    def predict(inputs: Arrays) -> Arrays:
        present = (inputs["tokens"] == mark).any(1)
        probabilities = np.full((len(present), len(codec.labels)), 0.1 / (len(codec.labels) - 1), dtype=np.float32)
        probabilities[:, 0] = np.where(present, 0.9, 0.1)
        return {"probabilities": probabilities}

    explanation = explain_class(predict, codec, "please give my money back soon")
    assert explanation["label"] == codec.labels[0]
    request = {"text": "please give my money back soon"}
    (answer,) = codec.decode(predict(codec.encode([request])), [request])
    text = drawn_everywhere(codec.blocks(request, {**answer, "explanation": explanation}))
    assert text.startswith(codec.labels[0]) and "90.0 %" in text and "+1.00  money" in text
    strongest = max(explanation["words"], key=lambda word: abs(word["weight"]))
    assert strongest["text"] == "money"
    assert strongest["weight"] == pytest.approx(0.8) and explanation == explain_class(predict, codec, "please give my money back soon")


def test_shapley_values_share_what_parts_do_together() -> None:
    values = shapley(lambda present: np.stack([present[:, 0] * 3.0 + present[:, 1] * present[:, 2] * 2.0, present[:, 3] * 1.0], 1), 4)
    assert values == pytest.approx(np.array([[3, 0], [1, 0], [1, 0], [0, 1]]), abs=1e-9)


def test_entities_are_explained_by_the_words_around_them(names: Path) -> None:
    codec = NetworkEntityCodec(names, EntityRecognition(**{**SMALL, "length": 64}))

    def predict(inputs: Arrays) -> Arrays:
        size = 1 + 2 * len(codec.labels)
        scores = np.zeros((*inputs["tokens"].shape, size), dtype=np.float32)
        scores[..., 0] = 2.0
        near = inputs["tokens"] == codec.windowed.tokenizer.encode(["to"])[0].numbers[0]
        scores[:, 1:, 1] = 6.0 * near[:, :-1]
        return {"scores": scores, "transitions": np.zeros((len(scores), size + 1, size), dtype=np.float32)}

    explanation = explain_entities(predict, codec, "send it to Oslo soon")
    entities = explanation["entities"]
    (answer,) = codec.decode(predict(codec.encode(["send it to Oslo soon"])), ["send it to Oslo soon"])
    shown = drawn_everywhere(codec.blocks("send it to Oslo soon", {**answer, "explanation": explanation}))
    assert f"{entities[0]['text']} ({entities[0]['label']})" in shown and "+1.00" in shown
    assert entities[0]["text"].startswith("O")
    strongest = sorted(entities[0]["words"], key=lambda word: -word["weight"])
    assert {word["text"] for word in strongest[:2]} == {"to", "Oslo"} and all(word["weight"] < 0.05 for word in strongest[2:])
