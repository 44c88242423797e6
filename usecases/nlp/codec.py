"""Codecs between texts and network inputs and outputs. They use NumPy and `tokenizers` only, since they run in the server."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tasks.contract.blocks import AnswerBlock, Mark, MarkedText, Words, probability_bars
from tasks.contract.codec import Takes
from tasks.contract.errors import BundleError
from tasks.contract.types import Arrays
from usecases.nlp.ngrams import encode_features, encode_ngrams, places_of
from usecases.nlp.scores import THRESHOLD
from usecases.nlp.sources import Span
from usecases.nlp.tags import allowed_transitions, posterior, runs, viterbi
from usecases.nlp.tokenizer import TextTokenizer, Tokens, Window, merged, text_windows

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

TOP = 5
MAX_CHARACTERS = 100_000  # of the text of one request

Entities = list[tuple[Span, float]]
"""Entities of one text, each with its probability."""


class TextCodec(ABC):
    """Requests are texts, or `{"text": ...}`."""

    takes: ClassVar[Takes] = "text"
    padding: Mapping[str, int] = {}

    def __init__(self, assets: Path) -> None:
        card = json.loads((assets / "labels.json").read_text(encoding="utf-8"))
        self.labels, self.multi = [str(label) for label in card["labels"]], bool(card["multi"])

    def read(self, argument: str) -> str:
        """The text of a file of that name, or the argument itself.

        Raises:
            BundleError: the file is not text in UTF-8.
        """
        try:
            path = Path(argument)
            return path.read_text(encoding="utf-8-sig").strip() if path.is_file() else argument
        except UnicodeDecodeError:
            raise BundleError(f"The file {argument} is not text in UTF-8. Convert it to UTF-8.") from None
        except OSError:  # too long for the name of a file, so it is a text
            return argument

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """The network's inputs.

        Raises:
            BundleError: a request is not a text, or its text is too long.
        """
        return self.inputs([text_of(number, request) for number, request in enumerate(requests, 1)])

    @abstractmethod
    def inputs(self, texts: Sequence[str]) -> Arrays: ...

    @abstractmethod
    def decode(self, outputs: Arrays, requests: Sequence[Any]) -> list[dict[str, Any]]: ...

    @abstractmethod
    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]: ...


def text_of(number: int, request: Any) -> str:
    text = request.get("text") if isinstance(request, dict) else request
    if not isinstance(text, str):
        raise BundleError(f'Text {number} of the request is not a text: {request!r:.80}. Send a string, or {{"text": "..."}}.')
    if len(text) > MAX_CHARACTERS:
        raise BundleError(
            f"Text {number} of the request has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed. Split it into several texts."
        )
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no character


def explained_words(what: str, items: list[MarkedText]) -> Words:
    """Texts whose words are marked by how much they add to the probability of an answer."""
    caption = (
        f"How much each word adds to the probability of {what}, relative to the strongest word; struck through: it lowers the probability."
    )
    return Words(kind="words", title="Why", caption=caption, items=items)


def weight_marks(words: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """Words of an explanation as marks; the strongest has the weight 1 or -1."""
    strongest = max((abs(word["weight"]) for word in words), default=0.0) or 1.0
    return [Mark(start=word["start"], end=word["end"], weight=word["weight"] / strongest) for word in words]


class WindowTokenizer:
    """Splits texts into windows of tokens."""

    def __init__(self, assets: Path, settings: TextSettings) -> None:
        self.tokenizer, self.settings = TextTokenizer(assets), settings

    def __call__(self, texts: Sequence[str]) -> tuple[list[Tokens], list[Window]]:
        tokens = self.tokenizer.encode(texts)
        return tokens, text_windows(self.settings, map(len, tokens))

    def batch(self, tokens: list[Tokens], windows: list[Window]) -> Arrays:
        return {"tokens": self.tokenizer.batch([tokens[w.text].numbers[w.start : w.stop] for w in windows])}


# -- classes -----------------------------------------------------------------------------------------------------------
class ClassCodec(TextCodec):
    """Answers are labels with probabilities."""

    @abstractmethod
    def probabilities(self, outputs: Arrays, texts: Sequence[str]) -> np.ndarray:
        """The probabilities of the classes of each text, [N, C]."""

    def decode(self, outputs: Arrays, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """`{"label", "probability", "top": [{"label", "probability"}, ...]}`, and `"labels"` if a text may have several."""
        texts = [text_of(number, request) for number, request in enumerate(requests, 1)]
        return [self._answer(row) for row in self.probabilities(outputs, texts)]

    def _answer(self, probabilities: np.ndarray) -> dict[str, Any]:
        order = np.argsort(-probabilities, kind="stable")[:TOP]
        top = [{"label": self.labels[i], "probability": round(float(probabilities[i]), 6)} for i in order]
        several = {"labels": [self.labels[i] for i in np.flatnonzero(probabilities >= THRESHOLD)]} if self.multi else {}
        return {**several, **top[0], "top": top}

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """Bars of the most probable labels, and the words of the explanation if there is one."""
        title = ", ".join(answer["labels"]) or "No label reaches the threshold" if "labels" in answer else answer["label"]
        shown: list[AnswerBlock] = [probability_bars(title, [(row["label"], row["probability"]) for row in answer["top"]])]
        if found := answer.get("explanation"):
            item = MarkedText(text=text_of(1, request), marks=weight_marks(found["words"]))
            shown.append(explained_words(found["label"], [item]))
        return shown


class NetworkClassCodec(ClassCodec):
    """The codec of a classifier that reads windows of tokens."""

    def __init__(self, assets: Path, settings: TextSettings) -> None:
        super().__init__(assets)
        self.windowed = WindowTokenizer(assets, settings)
        self.padding = {"tokens": self.windowed.tokenizer.padding}

    def inputs(self, texts: Sequence[str]) -> Arrays:
        return self.windowed.batch(*self.windowed(texts))

    def probabilities(self, outputs: Arrays, texts: Sequence[str]) -> np.ndarray:
        """The probabilities of each text, [N, C]: of a long text the mean over its windows, weighted by their lengths."""
        windows = self.windowed(texts)[1]
        weight = np.array([max(window.stop - window.start, 1) for window in windows], dtype=np.float64)
        total, sums = np.zeros(len(texts)), np.zeros((len(texts), len(self.labels)))
        text = [window.text for window in windows]
        np.add.at(total, text, weight)
        np.add.at(sums, text, outputs["probabilities"] * weight[:, None])
        return sums / total[:, None]


class LinearCodec(ClassCodec):
    """The codec of the linear baseline."""

    padding: Mapping[str, int] = {"ngrams": 0, "counts": 0}

    def inputs(self, texts: Sequence[str]) -> Arrays:
        return encode_ngrams(texts)

    def probabilities(self, outputs: Arrays, texts: Sequence[str]) -> np.ndarray:
        return outputs["probabilities"]


# -- entities ----------------------------------------------------------------------------------------------------------
class EntityCodec(TextCodec):
    """Answers are entities with their character offsets in the text."""

    def __init__(self, assets: Path) -> None:
        super().__init__(assets)
        self.allowed = allowed_transitions(self.labels)

    @abstractmethod
    def words(self, outputs: Arrays, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each text the tag scores of its words, [W, T], and their character offsets, [W, 2]."""

    def entities(self, outputs: Arrays, texts: Sequence[str]) -> list[Entities]:
        """The entities of each text, from the best valid sequence of tags: no I- tag without its B- tag."""
        transitions = outputs["transitions"][0] + self.allowed
        return [self._entities(scores, places, transitions) for scores, places in self.words(outputs, texts)]

    def decode(self, outputs: Arrays, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """`{"entities": [{"text", "label", "start", "end", "probability"}, ...]}`, in the order of the text."""
        texts = [text_of(number, request) for number, request in enumerate(requests, 1)]
        found = self.entities(outputs, texts)
        return [{"entities": [_named(text, *one) for one in entities]} for text, entities in zip(texts, found, strict=True)]

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """The text with its entities marked by their probability, and the words of each explanation if there is one."""
        text, found = text_of(1, request), answer["entities"]
        marks = [Mark(start=one["start"], end=one["end"], label=one["label"], weight=one["probability"]) for one in found]
        title = f"{len(found)} {'entity' if len(found) == 1 else 'entities'}" if found else "No entities"
        shown: list[AnswerBlock] = [Words(kind="words", title=title, items=[MarkedText(text=text, marks=marks)])]
        if explained := answer.get("explanation", {}).get("entities"):
            items = [MarkedText(title=f"{one['text']} ({one['label']})", text=text, marks=weight_marks(one["words"])) for one in explained]
            shown.append(explained_words("the entity", items))
        return shown

    def _entities(self, scores: np.ndarray, places: np.ndarray, transitions: np.ndarray) -> Entities:
        tags = viterbi(scores, transitions)
        if not tags.any():
            return []
        confidence = posterior(scores, transitions, tags)
        return [
            (Span(int(places[first, 0]), int(places[last, 1]), self.labels[kind]), float(confidence[first : last + 1].min()))
            for first, last, kind in runs(tags, places)
        ]


def _named(text: str, span: Span, probability: float) -> dict[str, Any]:
    part = text[span.start : span.end]
    return {"text": part, "label": span.label, "start": span.start, "end": span.end, "probability": round(probability, 6)}


class NetworkEntityCodec(EntityCodec):
    """The codec of a tagger that reads windows of tokens."""

    def __init__(self, assets: Path, settings: TextSettings) -> None:
        super().__init__(assets)
        self.windowed = WindowTokenizer(assets, settings)
        self.padding = {"tokens": self.windowed.tokenizer.padding}

    def inputs(self, texts: Sequence[str]) -> Arrays:
        return self.windowed.batch(*self.windowed(texts))

    def words(self, outputs: Arrays, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        tokens, windows = self.windowed(texts)
        of_text: list[tuple[list[Window], list[np.ndarray]]] = [([], []) for _ in texts]
        for window, scores in zip(windows, outputs["scores"], strict=True):
            of_text[window.text][0].append(window)
            of_text[window.text][1].append(scores[1 : 1 + window.stop - window.start])
        found = []
        for its_tokens, (its_windows, values) in zip(tokens, of_text, strict=True):
            count = max(window.stop for window in its_windows)
            first = its_tokens.first[:count]
            found.append((merged(count, its_windows, values)[first], its_tokens.words[:count][first]))
        return found


class CrfCodec(EntityCodec):
    """The codec of the CRF baseline."""

    padding: Mapping[str, int] = {"features": 0}

    def inputs(self, texts: Sequence[str]) -> Arrays:
        return encode_features(texts)[0]

    def words(self, outputs: Arrays, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        places = [places_of(text) for text in texts]
        return [(scores[: len(place)], place) for scores, place in zip(outputs["scores"], places, strict=True)]
