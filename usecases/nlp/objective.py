"""What is learnt: the classes of texts, the tags of words, or tokens that were hidden."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.contract.types import Predict
from usecases.calibration import best_temperature
from usecases.nlp.crf import crf_loss, packed, tag_marginals
from usecases.nlp.evaluation import probabilities_of
from usecases.nlp.network import Classifier, MaskedLM, Tagger
from usecases.nlp.texts import Texts
from usecases.nlp.windows import MASKED, NO_TAG, true_labels

if TYPE_CHECKING:
    from usecases.nlp import EntityRecognition, TextClassification
    from usecases.nlp.codec import ClassCodec

FOCUS = 2.0  # gamma of the focal loss
REPLACED, LEFT = 0.1, 0.1  # of the hidden tokens: by a random one, or not at all


def classification_loss(usecase: TextClassification, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy over classes, or one per label where there may be several; weighted or focal (Lin 2017) against imbalance."""
    classifier = cast(Classifier, network)
    return class_loss(usecase, classifier, classifier(batch["tokens"]), batch["label"])


def class_distillation_loss(
    usecase: TextClassification, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
) -> Tensor:
    """What was observed, and the teacher's softened opinion (Hinton 2015): of all classes, or of each label where there may be several."""
    small = cast(Classifier, student)
    with torch.no_grad():
        wanted = teacher(batch["tokens"]) / temperature
    logits = small(batch["tokens"])
    observed = class_loss(usecase, small, logits, batch["label"])
    if small.multi:
        distilled = F.binary_cross_entropy_with_logits(logits / temperature, torch.sigmoid(wanted))
    else:
        distilled = F.cross_entropy(logits / temperature, torch.softmax(wanted, 1))
    return (1 - weight) * observed + weight * temperature**2 * distilled


def class_loss(usecase: TextClassification, classifier: Classifier, logits: Tensor, label: Tensor) -> Tensor:
    balance = classifier.rarity if usecase.imbalance == "weights" else None
    if classifier.multi:
        wanted = label.float()
        loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=balance, reduction="none")
        if usecase.imbalance == "focal":
            loss = loss * (wanted - torch.sigmoid(logits)).abs().detach() ** FOCUS
        return loss.mean()
    if usecase.imbalance == "focal":
        right = torch.log_softmax(logits, 1).gather(1, label[:, None])[:, 0]
        return -((1 - right.exp()) ** FOCUS * right).mean()
    return F.cross_entropy(logits, label, weight=balance, label_smoothing=usecase.label_smoothing)


def tagging_loss(usecase: EntityRecognition, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Of whole sequences (CRF), or token by token."""
    tagger = cast(Tagger, network)
    scores = tagger(batch["tokens"])
    if usecase.crf:
        with torch.autocast(scores.device.type, enabled=False):
            return crf_loss(scores, batch["tags"], tagger.transitions)
    return F.cross_entropy(scores.flatten(0, 1), batch["tags"].flatten(), ignore_index=NO_TAG)


def tag_distillation_loss(
    usecase: EntityRecognition, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
) -> Tensor:
    """What was observed, and the teacher's opinion of each word as its whole sequence of tags makes it."""
    small, large = cast(Tagger, student), cast(Tagger, teacher)
    scores, tags = packed(small(batch["tokens"]), batch["tags"])
    with torch.no_grad():
        wanted = packed(large(batch["tokens"]), batch["tags"])[0]
    with torch.autocast(scores.device.type, enabled=False):
        known = tags >= 0
        if usecase.crf:
            observed = crf_loss(scores, tags, small.transitions)
            with torch.no_grad():
                wanted = tag_marginals(wanted, known, large.transitions, temperature)
            found = tag_marginals(scores, known, small.transitions, temperature)
        else:
            observed = F.cross_entropy(scores[known], tags[known])
            wanted, found = (torch.log_softmax(one / temperature, 2) for one in (wanted, scores))
        distilled = -(wanted.exp() * found).sum(2)[known].mean() * temperature**2
    return (1 - weight) * observed + weight * distilled


def masked_lm_loss(network: nn.Module, tokens: Tensor) -> Tensor:
    """Masked-language modelling (Devlin 2019): of 15 % of the tokens 80 % are masked, 10 % replaced, 10 % left as they are.

    Args:
        tokens: int64 [B, L].
    """
    masked_lm = cast(MaskedLM, network)
    draw = torch.rand(tokens.shape, device=tokens.device)
    asked = draw < MASKED
    for mark in masked_lm.marks:
        asked &= tokens != mark
    how = torch.rand(tokens.shape, device=tokens.device)
    others = torch.randint_like(tokens, len(masked_lm.bias))
    seen = torch.where(asked & (how < 1 - REPLACED - LEFT), masked_lm.mask, tokens)
    seen = torch.where(asked & (how >= 1 - REPLACED), others, seen)
    if not asked.any():
        return masked_lm(tokens).sum() * 0
    return F.cross_entropy(masked_lm(seen, asked).float(), tokens[asked])


def fit_temperature(network: nn.Module, predict: Predict, codec: ClassCodec, folder: Path) -> None:
    """Temperature scaling on validation, by what a server would answer."""
    classifier = cast(Classifier, network)
    texts = Texts(folder / "validation")
    likely = np.clip(probabilities_of(predict, codec, texts), 1e-7, 1 - 1e-7)
    right = true_labels(folder, "validation", tuple(codec.labels))
    logits = np.log(likely) - (np.log1p(-likely) if classifier.multi else 0)
    classifier.temperature.mul_(best_temperature(logits, right, classifier.multi))
