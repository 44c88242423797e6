"""Entities as one tag per token (BIO), and decoding of sequences of tags. NumPy only, since it runs in the server.

Tag 0 is O; tags 1 + 2k and 2 + 2k are B- and I- of entity type k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from usecases.nlp.sources import Span

FORBIDDEN = -1e4  # finite, so that a graph in half precision can hold it
TINY = 1e-300


def tag_names(types: Sequence[str]) -> list[str]:
    """The names of the tags: O, B-x, I-x, B-y, ... in the order of the types."""
    return ["O", *(f"{place}-{name}" for name in types for place in "BI")]


def spans_to_tags(offsets: np.ndarray, spans: Sequence[Span], types: Sequence[str]) -> np.ndarray:
    """Convert spans to tags. A token belongs to the first span that it overlaps.

    Args:
        offsets: start and end, exclusive, of the tokens in characters, [L, 2]; tokens without characters get the tag O.
        spans: entities; of nested ones the outer one counts, since tags cannot be nested.
        types: entity types, whose order gives the tags their numbers.

    Returns:
        The tag of each token, int64 [L].
    """
    tags = np.zeros(len(offsets), dtype=np.int64)
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        inside = (offsets[:, 0] < span.end) & (offsets[:, 1] > span.start) & (offsets[:, 0] < offsets[:, 1]) & (tags == 0)
        places = np.flatnonzero(inside)
        tags[places] = 2 + 2 * types.index(span.label)
        tags[places[:1]] -= 1
    return tags


def tags_to_spans(tags: np.ndarray, offsets: np.ndarray, types: Sequence[str]) -> list[Span]:
    """Convert tags to spans, the inverse of `spans_to_tags`.

    Args:
        tags: tag of each token, [L].
        offsets: start and end, exclusive, of the tokens in characters, [L, 2].
        types: entity types.

    Returns:
        The entities in order.
    """
    return [Span(int(offsets[first, 0]), int(offsets[last, 1]), types[kind]) for first, last, kind in runs(tags, offsets)]


def runs(tags: np.ndarray, offsets: np.ndarray) -> list[tuple[int, int, int]]:
    """First token, last token and type of each entity. An I- tag without a B- tag starts an entity, as in conlleval."""
    found: list[tuple[int, int, int]] = []
    before = 0
    for place in np.flatnonzero(offsets[:, 0] < offsets[:, 1]):
        tag = int(tags[place])
        if tag and tag % 2 == 0 and before in (tag, tag - 1):
            found[-1] = (found[-1][0], int(place), found[-1][2])
        elif tag:
            found.append((int(place), int(place), (tag - 1) // 2))
        before = tag
    return found


def allowed_transitions(types: Sequence[str]) -> np.ndarray:
    """Scores of transitions, float32 [T + 1, T]: 0 if the tag of the column may follow that of the row (row 0: the start), else -1e4."""
    size = 1 + 2 * len(types)
    inner = np.arange(2, size, 2)
    table = np.zeros((size + 1, size), dtype=np.float32)
    table[:, inner] = FORBIDDEN
    table[inner + 1, inner] = 0
    table[inner, inner] = 0  # row 1 + tag: after its B-
    return table


def viterbi(scores: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """The tags with the highest sum of scores and transitions, int64 [L] (Viterbi 1967).

    Args:
        scores: score of each tag at each token, [L, T].
        transitions: score of each step from tag to tag, [T + 1, T]; row 0 is the start.
    """
    if not len(scores):
        return np.zeros(0, dtype=np.int64)
    best = scores.astype(np.float64)  # in single precision the sums of a long text would lose small differences
    start, steps = transitions[0].astype(np.float64), transitions[1:].astype(np.float64)
    best[0] += start
    reached = np.empty_like(steps)
    for place in range(1, len(best)):
        np.add(best[place - 1][:, None], steps, out=reached)
        best[place] += np.maximum.reduce(reached, axis=0)
    tags = np.empty(len(best), dtype=np.int64)
    tags[-1] = best[-1].argmax()
    into = np.ascontiguousarray(steps.T)
    for place in range(len(best) - 1, 0, -1):  # the previous tag is computed along the best path only
        tags[place - 1] = (best[place - 1] + into[tags[place]]).argmax()
    return tags


def posterior(scores: np.ndarray, transitions: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Marginal probabilities of a sequence of tags, by the forward-backward algorithm.

    Args:
        scores: score of each tag at each token, [L, T].
        transitions: score of each step from tag to tag, [T + 1, T]; row 0 is the start.
        tags: a sequence of tags, such as that of `viterbi`, [L].

    Returns:
        The probability of each tag at its token over all sequences, float64 [L].
    """
    if not len(scores):
        return np.zeros(0)
    emitted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    steps = np.exp(transitions.astype(np.float64))
    forward, backward = emitted.copy(), np.ones_like(emitted)
    forward[0] *= steps[0]
    forward[0] /= forward[0].sum()
    for place in range(1, len(emitted)):
        forward[place] *= forward[place - 1] @ steps[1:]
        forward[place] /= max(forward[place].sum(), TINY)
    for place in range(len(emitted) - 2, -1, -1):
        backward[place] = steps[1:] @ (emitted[place + 1] * backward[place + 1])
        backward[place] /= max(backward[place].sum(), TINY)
    both = forward * backward
    return both[np.arange(len(tags)), tags] / np.maximum(both.sum(axis=1), TINY)
