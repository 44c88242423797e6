"""Baselines without a neural network: linear models over n-grams and over features of words. They are strong on little data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from pycrfsuite import Tagger, Trainer  # pyright: ignore[reportAttributeAccessIssue]
from scipy.optimize import minimize
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from torch.nn.functional import embedding

from usecases.nlp.ngrams import BUCKETS, WORD, WORD_BUCKETS, encode_features, encode_ngrams
from usecases.nlp.scores import classification_scores
from usecases.nlp.tags import allowed_transitions, spans_to_tags, tag_names
from usecases.nlp.texts import Texts

READ_AT_ONCE = 512
MAX_NGRAMS = 300_000  # the most frequent n-grams are kept; n-grams of a single text are kept too, since they help
STRENGTHS = (1.0, 0.3, 3.0)  # C of the support vector machine: the larger, the closer it follows the training texts
WORD_WEIGHTS = (1.0, 4.0)  # weight of word n-grams relative to character n-grams, of which there are many more
PRECISION = 0.01  # tolerance of the support vector machine; the default of liblinear is 0.1, that of scikit-learn 0.0001
L1, L2 = 0.005, 0.1  # regularisation of the CRF; L1 keeps its table small
ITERATIONS = 100


class Grown(nn.Module):
    """A module whose buffers get their sizes from fitting: loading a state dict resizes them."""

    def fill(self, name: str, values: np.ndarray) -> None:
        """Replace a buffer."""
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in self._buffers:
            if prefix + name in state_dict:
                self.register_buffer(name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class LinearText(Grown):
    """Sublinear tf-idf of hashed n-grams and one linear layer: n-grams and counts [B, K] to probabilities [B, C].

    Args:
        classes: number of classes, C.
        multi: a text may have several labels; each gets a sigmoid instead of a share of one softmax.
    """

    def __init__(self, classes: int, multi: bool) -> None:
        super().__init__()
        self.multi = multi
        self.register_buffer("remap", torch.zeros(BUCKETS, dtype=torch.int32))  # bucket to row; 0: padding and unknown n-grams
        self.register_buffer("idf", torch.zeros(1))
        self.register_buffer("weights", torch.zeros(1, classes))
        self.register_buffer("bias", torch.zeros(classes))
        self.remap: Tensor
        self.idf: Tensor
        self.weights: Tensor
        self.bias: Tensor

    def forward(self, ngrams: Tensor, counts: Tensor) -> Tensor:
        row = self.remap[ngrams].long()
        weight = (1 + torch.log(counts.clamp(min=1))) * self.idf[row]
        weight = weight / weight.norm(dim=1, keepdim=True).clamp(min=1e-12)
        scores = (weight[:, None] @ embedding(row, self.weights))[:, 0] + self.bias
        return torch.sigmoid(scores) if self.multi else torch.softmax(scores, dim=-1)


class CrfTagger(Grown):
    """A linear-chain CRF (Lafferty 2001) over hashed features: features [B, L, F] to scores [B, L, T], transitions [B, T + 1, T].

    Args:
        types: entity types; their tags are those of `tags.tag_names`.
    """

    def __init__(self, types: Sequence[str]) -> None:
        super().__init__()
        allowed = torch.from_numpy(allowed_transitions(types))
        self.register_buffer("remap", torch.zeros(WORD_BUCKETS, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(1, allowed.shape[1]))
        self.register_buffer("steps", allowed)  # not "transitions": that is the name of a graph output
        self.remap: Tensor
        self.weights: Tensor
        self.steps: Tensor

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        scores = embedding(self.remap[features].long(), self.weights).sum(dim=2)
        return scores, self.steps.expand(features.shape[0], -1, -1)


# -- classification ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Choice:
    """Hyperparameters, which are chosen on validation one after the other."""

    words: float = WORD_WEIGHTS[0]
    strength: float = STRENGTHS[0]
    balanced: bool = False


@dataclass(frozen=True)
class Fitted:
    """Fitted support vector machines: idf [V], weights [V, C], bias [C], margins of the validation texts [N, C], and their quality."""

    choice: Choice
    idf: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    margins: np.ndarray
    quality: float


def fit_linear(network: LinearText, folder: Path) -> None:
    """Fit one linear support vector machine per class (Fan 2008), with hyperparameters that are chosen on validation.

    Platt scaling on validation turns its margins into probabilities: one slope for all classes, and a shift if a text may have several labels.
    """
    labels = json.loads((folder / "assets" / "labels.json").read_text(encoding="utf-8"))["labels"]
    counts, target = _counted(folder, "train", labels)
    held, held_target = _counted(folder, "validation", labels)
    kept, frequency = _vocabulary(counts)
    rarity = np.log((1 + len(target)) / (1 + frequency)) + 1
    counts, held = counts[:, kept], held[:, kept]

    def fitted(choice: Choice) -> Fitted:
        idf = rarity * np.where(kept % 2 == WORD, choice.words, 1.0)
        weights, bias = _support_vectors(_weighted(counts, idf), target, choice, network.multi)
        margins = _weighted(held, idf) @ weights + bias
        return Fitted(choice, idf, weights, bias, margins, _quality(margins, held_target, network.multi))

    best = fitted(Choice())
    for name, values in {"words": WORD_WEIGHTS[1:], "strength": STRENGTHS[1:], "balanced": (True,)}.items():
        others = [fitted(replace(best.choice, **{name: value})) for value in values]
        best = max(best, *others, key=lambda one: one.quality)
    slope, shift = _calibrated(best.margins, held_target, network.multi)
    network.fill("remap", _rows(kept, BUCKETS))
    network.fill("idf", np.concatenate([[0], best.idf]).astype(np.float32))
    network.fill("weights", np.concatenate([np.zeros((1, len(labels))), best.weights * slope]).astype(np.float32))
    network.fill("bias", (best.bias * slope + shift).astype(np.float32))


def _counted(folder: Path, split: str, labels: Sequence[str]) -> tuple[Any, np.ndarray]:
    """The count of each n-gram in each text, sparse [N, buckets], and the true labels, bool [N, C]."""
    number = {label: column for column, label in enumerate(labels)}
    examples = Texts(folder / split)
    parts, target = [], np.zeros((len(examples), len(labels)), dtype=bool)
    for rows in _in_parts(examples):
        found = encode_ngrams(examples.texts(rows))
        used = found["counts"] > 0
        starts = np.concatenate([[0], used.sum(1).cumsum()])
        parts.append(sp.csr_matrix((found["counts"][used], found["ngrams"][used], starts), shape=(len(rows), BUCKETS)))
        for row, given in zip(rows, examples.labels(rows), strict=True):
            target[row, [number[label] for label in given if label in number]] = True
    return sp.vstack(parts, format="csr"), target


def _vocabulary(counts: Any) -> tuple[np.ndarray, np.ndarray]:
    """The buckets that are kept, in order, and the number of texts in which each occurs."""
    frequency = np.bincount(counts.indices, minlength=BUCKETS)
    common = np.argsort(-frequency, kind="stable")[:MAX_NGRAMS]
    kept = np.sort(common[frequency[common] > 0])
    return kept, frequency[kept]


def _rows(kept: np.ndarray | list[int], buckets: int) -> np.ndarray:
    """The row of each kept bucket, counted from 1, int32 [buckets]; 0 for buckets that are not kept."""
    remap = np.zeros(buckets, dtype=np.int32)
    remap[kept] = np.arange(1, len(kept) + 1)
    return remap


def _weighted(counts: Any, idf: np.ndarray) -> Any:
    """Sublinear tf-idf, each text normalised to length 1 (Salton 1988), as in `LinearText`."""
    weighted = counts.astype(np.float64)
    weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sp.csr_matrix(sp.diags(1 / np.maximum(length, 1e-12)) @ weighted)


def _support_vectors(texts: Any, target: np.ndarray, choice: Choice, multi: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights [V, C] and bias [C] of one machine per class against the rest; balanced: texts of rarer classes weigh more."""
    support = target.sum(0)
    weights, bias = np.zeros((texts.shape[1], target.shape[1])), np.zeros(target.shape[1])
    mirrored = target.shape[1] == 2 and not multi  # two classes need one machine only
    for column in range(int(mirrored), target.shape[1]):
        if support[column] in (0, len(target)):
            bias[column] = 1.0 if support[column] else -1.0
            continue
        weight = {True: support.mean() / support[column] if choice.balanced else 1.0, False: 1.0}
        machine = LinearSVC(C=choice.strength, class_weight=weight, tol=PRECISION, random_state=0).fit(texts, target[:, column])
        weights[:, column], bias[column] = machine.coef_[0], np.ravel(machine.intercept_)[0]
    if mirrored:
        weights[:, 0], bias[0] = -weights[:, 1], -bias[1]
    return weights, bias


def _quality(margins: np.ndarray, target: np.ndarray, multi: bool) -> float:
    """The sum of accuracy and macro_f1."""
    scores = classification_scores(_probabilities(margins, multi), target, multi, [str(column) for column in range(target.shape[1])])
    return scores["accuracy"] + scores["macro_f1"]


def _calibrated(margins: np.ndarray, target: np.ndarray, multi: bool) -> tuple[float, float]:
    """The slope, and for several labels the shift, that minimise the negative log-likelihood (Platt 1999; Guo 2017)."""

    def negative_log_likelihood(at: np.ndarray) -> float:
        probabilities = _probabilities(margins * np.exp(at[0]) + at[1] * multi, multi)
        others = np.where(target, 0, 1 - probabilities) if multi else 1
        return float(-np.log(np.maximum(np.where(target, probabilities, others), 1e-12)).sum() / len(target))

    found = minimize(negative_log_likelihood, np.array([1.0, 0.0]), method="Nelder-Mead", bounds=[(-3, 4), (-10, 10)]).x
    return float(np.exp(found[0])), float(found[1] * multi)


def _probabilities(margins: np.ndarray, multi: bool) -> np.ndarray:
    if multi:
        return 1 / (1 + np.exp(-np.clip(margins, -500, 500)))
    raised = np.exp(margins - margins.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


# -- entities ------------------------------------------------------------------------------------------------------
def fit_crf(network: CrfTagger, folder: Path) -> None:
    """Fit the CRF on the training split with crfsuite (Okazaki 2007)."""
    types = json.loads((folder / "assets" / "labels.json").read_text(encoding="utf-8"))["labels"]
    names = tag_names(types)
    trainer = Trainer(algorithm="lbfgs", verbose=False)
    trainer.set_params({"c1": L1, "c2": L2, "max_iterations": ITERATIONS, "feature.possible_transitions": True})
    for features, tags in _tagged(folder, types):
        trainer.append([[str(bucket) for bucket in word if bucket] for word in features.tolist()], [names[tag] for tag in tags])
    with tempfile.TemporaryDirectory() as work:
        trainer.train(str(Path(work) / "model"))
        tagger = Tagger()
        tagger.open(str(Path(work) / "model"))
        learnt = tagger.info()
        tagger.close()
    buckets = sorted({int(bucket) for bucket, _ in learnt.state_features})
    remap = _rows(buckets, WORD_BUCKETS)
    weights = np.zeros((len(buckets) + 1, len(names)), dtype=np.float32)
    for (bucket, name), weight in learnt.state_features.items():
        weights[remap[int(bucket)], names.index(name)] = weight
    transitions = allowed_transitions(types)
    for (before, after), weight in learnt.transitions.items():
        transitions[1 + names.index(before), names.index(after)] += weight
    network.fill("remap", remap)
    network.fill("weights", weights)
    network.fill("steps", transitions)


def _tagged(folder: Path, types: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features [L, F] and tags [L] of each training text that has words."""
    examples = Texts(folder / "train")
    for rows in _in_parts(examples):
        arrays, offsets = encode_features(examples.texts(rows))
        for features, places, spans in zip(arrays["features"], offsets, examples.spans(rows), strict=True):
            if len(places):
                yield features[: len(places)], spans_to_tags(places, spans, types)


def _in_parts(examples: Texts) -> Iterator[range]:
    """The indices of the texts in chunks."""
    for start in range(0, len(examples), READ_AT_ONCE):
        yield range(start, min(start + READ_AT_ONCE, len(examples)))
