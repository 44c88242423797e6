"""Loss functions: classification, tagging, masked language modelling, and distillation."""

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
REPLACED, KEPT = 0.1, 0.1  # shares of the selected tokens that a random one replaces, and that are kept


def classification_loss(usecase: TextClassification, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Loss of a classifier on a batch.

    Args:
        usecase: settings of the loss.
        network: a `Classifier`.
        batch: `tokens`, int64 [B, L], and `label`, int64 [B], or bool [B, C] if a text may have several.

    Returns:
        The loss, a scalar.
    """
    classifier = cast(Classifier, network)
    return class_loss(usecase, classifier, classifier(batch["tokens"]), batch["label"])


def class_distillation_loss(
    usecase: TextClassification, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
) -> Tensor:
    """Distillation loss of a classifier (Hinton 2015): over all classes, or for each label if a text may have several.

    Args:
        usecase: settings of the loss on the true labels.
        student: a `Classifier`.
        teacher: the network whose softened outputs are the targets.
        batch: as for `classification_loss`.
        weight: weight of the teacher's targets, in [0, 1]; the rest is the weight of the true labels.
        temperature: divides the logits of both.

    Returns:
        The loss, a scalar.
    """
    classifier = cast(Classifier, student)
    with torch.no_grad():
        target = teacher(batch["tokens"]) / temperature
    logits = classifier(batch["tokens"])
    hard = class_loss(usecase, classifier, logits, batch["label"])
    if classifier.multi:
        soft = F.binary_cross_entropy_with_logits(logits / temperature, torch.sigmoid(target))
    else:
        soft = F.cross_entropy(logits / temperature, torch.softmax(target, 1))
    return (1 - weight) * hard + weight * temperature**2 * soft


def class_loss(usecase: TextClassification, classifier: Classifier, logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy over classes, or one for each label if a text may have several; weighted or focal (Lin 2017) against imbalance.

    Args:
        usecase: settings of the loss.
        classifier: the network, which has the class weights.
        logits: [B, C].
        label: int64 [B], or bool [B, C] if a text may have several.

    Returns:
        The loss, a scalar.
    """
    balance = classifier.rarity if usecase.imbalance == "weights" else None
    if classifier.multi:
        target = label.float()
        loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=balance, reduction="none")
        if usecase.imbalance == "focal":
            loss = loss * (target - torch.sigmoid(logits)).abs().detach() ** FOCUS
        return loss.mean()
    if usecase.imbalance == "focal":
        log_probability = torch.log_softmax(logits, 1).gather(1, label[:, None])[:, 0]
        return -((1 - log_probability.exp()) ** FOCUS * log_probability).mean()
    return F.cross_entropy(logits, label, weight=balance, label_smoothing=usecase.label_smoothing)


def tagging_loss(usecase: EntityRecognition, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Loss of a tagger on a batch: the CRF loss of whole sequences, or the cross-entropy of each token.

    Args:
        usecase: settings of the loss.
        network: a `Tagger`.
        batch: `tokens`, int64 [B, L], and `tags`, int64 [B, L], -1 where no word begins.

    Returns:
        The loss, a scalar.
    """
    tagger = cast(Tagger, network)
    scores = tagger(batch["tokens"])
    if usecase.crf:
        with torch.autocast(scores.device.type, enabled=False):
            return crf_loss(scores, batch["tags"], tagger.transitions)
    return F.cross_entropy(scores.flatten(0, 1), batch["tags"].flatten(), ignore_index=NO_TAG)


def tag_distillation_loss(
    usecase: EntityRecognition, student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], weight: float, temperature: float
) -> Tensor:
    """Distillation loss of a tagger: with a CRF over the marginal probabilities of the tags, else over the softmax of each token.

    Args:
        usecase: settings of the loss on the true tags.
        student: a `Tagger`.
        teacher: a `Tagger` whose softened outputs are the targets.
        batch: as for `tagging_loss`.
        weight: weight of the teacher's targets, in [0, 1]; the rest is the weight of the true tags.
        temperature: divides the scores of both.

    Returns:
        The loss, a scalar.
    """
    small, large = cast(Tagger, student), cast(Tagger, teacher)
    scores, tags = packed(small(batch["tokens"]), batch["tags"])
    with torch.no_grad():
        target = packed(large(batch["tokens"]), batch["tags"])[0]
    with torch.autocast(scores.device.type, enabled=False):
        mask = tags >= 0
        if usecase.crf:
            hard = crf_loss(scores, tags, small.transitions)
            with torch.no_grad():
                target = tag_marginals(target, mask, large.transitions, temperature)
            found = tag_marginals(scores, mask, small.transitions, temperature)
        else:
            hard = F.cross_entropy(scores[mask], tags[mask])
            target, found = (torch.log_softmax(one / temperature, 2) for one in (target, scores))
        soft = -(target.exp() * found).sum(2)[mask].mean() * temperature**2
    return (1 - weight) * hard + weight * soft


def masked_lm_loss(network: nn.Module, tokens: Tensor) -> Tensor:
    """Loss of masked language modelling (Devlin 2019): 15 % of the tokens are predicted; of these 80 % are masked, 10 % replaced and 10 % kept.

    Args:
        network: a `MaskedLM`.
        tokens: int64 [B, L].
    """
    masked_lm = cast(MaskedLM, network)
    draw = torch.rand(tokens.shape, device=tokens.device)
    selected = draw < MASKED
    for mark in masked_lm.marks:
        selected &= tokens != mark
    how = torch.rand(tokens.shape, device=tokens.device)
    others = torch.randint_like(tokens, len(masked_lm.bias))
    inputs = torch.where(selected & (how < 1 - REPLACED - KEPT), masked_lm.mask, tokens)
    inputs = torch.where(selected & (how >= 1 - REPLACED), others, inputs)
    if not selected.any():
        return masked_lm(tokens).sum() * 0
    return F.cross_entropy(masked_lm(inputs, selected).float(), tokens[selected])


def fit_temperature(network: nn.Module, predict: Predict, codec: ClassCodec, folder: Path) -> None:
    """Calibrate a classifier by temperature scaling on the validation split.

    Args:
        network: a `Classifier`, whose temperature is set.
        predict: the model as it is served.
        codec: its codec.
        folder: the prepared data set.
    """
    classifier = cast(Classifier, network)
    texts = Texts(folder / "validation")
    probabilities = np.clip(probabilities_of(predict, codec, texts), 1e-7, 1 - 1e-7)
    target = true_labels(folder, "validation", tuple(codec.labels))
    logits = np.log(probabilities) - (np.log1p(-probabilities) if classifier.multi else 0)
    classifier.temperature.mul_(best_temperature(logits, target, classifier.multi))
