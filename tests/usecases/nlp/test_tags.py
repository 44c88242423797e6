"""Entities as tags and back, and the decoder against all sequences there are."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from usecases.nlp.sources import Span
from usecases.nlp.tags import allowed_transitions, posterior, spans_to_tags, tag_names, tags_to_spans, viterbi
from usecases.nlp.words import words

TYPES = ["place", "person"]
TEXT = "Ada Lovelace met 温格 in Rio"
SPANS = [Span(0, 12, "person"), Span(17, 19, "person"), Span(23, 26, "place")]


def named(tags: np.ndarray) -> list[str]:
    return [tag_names(TYPES)[tag] for tag in tags]


def numbers(tags: str) -> np.ndarray:
    return np.array([tag_names(TYPES).index(tag) for tag in tags.split()])


def places(count: int) -> np.ndarray:
    """Words of two characters, a space between them."""
    return np.array([[3 * i, 3 * i + 2] for i in range(count)])


def test_spans_become_tags_and_come_back() -> None:
    offsets = np.array(words(TEXT))
    tags = spans_to_tags(offsets, SPANS, TYPES)
    assert named(tags) == ["B-person", "I-person", "O", "B-person", "I-person", "O", "B-place"]
    assert tags_to_spans(tags, offsets, TYPES) == SPANS


def test_a_token_that_overlaps_a_span_belongs_to_it() -> None:
    offsets = np.array([[0, 0], [0, 4], [4, 9], [9, 12], [12, 12]])  # with tokens that hold no characters
    assert named(spans_to_tags(offsets, [Span(5, 10, "place")], TYPES)) == ["O", "O", "B-place", "I-place", "O"]


def test_neighbours_of_one_type_stay_two_and_of_nested_spans_the_outer_counts() -> None:
    assert named(spans_to_tags(places(3), [Span(3, 5, "place"), Span(0, 2, "place")], TYPES)) == ["B-place", "B-place", "O"]
    assert named(spans_to_tags(places(3), [Span(3, 5, "person"), Span(0, 8, "place")], TYPES)) == ["B-place", "I-place", "I-place"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("I-place O", [Span(0, 2, "place")]),
        ("B-place I-person I-person", [Span(0, 2, "place"), Span(3, 8, "person")]),
        ("I-place B-place", [Span(0, 2, "place"), Span(3, 5, "place")]),
        ("O O", []),
    ],
)
def test_broken_sequences_are_read_as_conlleval_reads_them(tags: str, expected: list[Span]) -> None:
    found = numbers(tags)
    assert tags_to_spans(found, places(len(found)), TYPES) == expected


def test_tokens_without_characters_are_no_part_of_entities() -> None:
    offsets = np.array([[0, 0], [0, 2], [2, 2], [2, 4], [0, 0]])
    assert tags_to_spans(numbers("I-place B-place O I-place B-person"), offsets, TYPES) == [Span(0, 4, "place")]


def test_no_tag_continues_what_is_not_there() -> None:
    names = tag_names(TYPES)
    table = allowed_transitions(TYPES)
    assert table.shape == (6, 5) and table.dtype == np.float32
    for row, before in enumerate(["start", *names]):
        for column, after in enumerate(names):
            fits = not after.startswith("I-") or before[2:] == after[2:]
            assert table[row, column] == (0 if fits else -1e4)


def drawn(length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    transitions = random.normal(size=(6, 5)).astype(np.float32) + allowed_transitions(TYPES)
    return random.normal(size=(length, 5)).astype(np.float32) * 2, transitions


def total(path: tuple[int, ...], scores: np.ndarray, transitions: np.ndarray) -> float:
    before = (-1, *path)
    return sum(float(transitions[b + 1, t]) + float(scores[i, t]) for i, (b, t) in enumerate(zip(before, path, strict=False)))


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_decoder_is_brute_force(length: int, seed: int) -> None:
    scores, transitions = drawn(length, seed)
    paths = list(product(range(5), repeat=length))
    totals = np.array([total(path, scores, transitions) for path in paths])
    best = viterbi(scores, transitions)
    assert tuple(best) == paths[int(totals.argmax())]
    share = np.exp(totals - totals.max())
    share /= share.sum()
    expected = [sum(s for s, path in zip(share, paths, strict=True) if path[i] == tag) for i, tag in enumerate(best)]
    assert posterior(scores, transitions, best) == pytest.approx(expected, abs=1e-6)


def test_no_text_is_too_short_or_too_long() -> None:
    scores, transitions = drawn(20_000, 0)
    assert viterbi(scores[:0], transitions).shape == posterior(scores[:0], transitions, np.zeros(0, np.int64)).shape == (0,)
    tags = viterbi(scores, transitions)
    assert (viterbi(scores[:100], transitions)[:50] == tags[:50]).all()
    confidence = posterior(scores, transitions, tags)
    assert ((confidence > 0) & (confidence <= 1 + 1e-9)).all()


def test_confident_scores_do_not_underflow() -> None:
    scores = np.full((3, 5), -5_000, dtype=np.float32)
    scores[[0, 1, 2], [1, 2, 0]] = 5_000
    tags = viterbi(scores, allowed_transitions(TYPES))
    assert tags.tolist() == [1, 2, 0]
    assert posterior(scores, allowed_transitions(TYPES), tags) == pytest.approx([1, 1, 1])
