"""Attributions of a trained torch network for the report: integrated gradients and attention."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from usecases.nlp.network import Classifier, Pretrained, SmallTransformer, Tagger, TextNetwork
from usecases.nlp.tags import tag_names
from usecases.nlp.texts import Texts
from usecases.nlp.tokenizer import Tokens
from usecases.nlp.windows import read_labels, read_tokenizer

SHOWN, WITH_ATTENTION = 6, 2  # texts
MAX_TOKENS = 32  # of a text in the report
STEPS = 32  # of the integral
Block = dict[str, Any]
EncodedText = tuple[str, Tokens, Tensor]
"""A text, its tokens, and the network's input, int64 [1, L]."""


def class_blocks(network: Classifier, folder: Path) -> list[Block]:
    """Blocks of the report: how much each word adds to the predicted class, and the attention of the last layer."""
    labels, shown = read_labels(folder / "assets")["labels"], list(_short_texts(folder))
    mask, items = read_tokenizer(folder / "assets").mask, []
    for text, tokens, batch in shown:
        label = int(network(batch).argmax())
        items.append(_item(network, mask, labels[label], (text, tokens, batch), (label,)))
    return [_gradients(items, "the class"), *_attention(network, folder, shown)]


def entity_blocks(network: Tagger, folder: Path) -> list[Block]:
    """Blocks of the report: how much each word adds to the most confident tag, and the attention of the last layer."""
    names, shown = tag_names(read_labels(folder / "assets")["labels"]), list(_short_texts(folder))
    mask, items = read_tokenizer(folder / "assets").mask, []
    for text, tokens, batch in shown:
        confidence = network(batch)[0, 1:-1, 1:].softmax(1)[torch.from_numpy(tokens.first)]
        if not len(confidence):
            continue
        word, tag = divmod(int(confidence.argmax()), confidence.shape[1])
        place = int(np.flatnonzero(tokens.first)[word])
        start, end = tokens.words[place]
        items.append(_item(network, mask, f"{text[start:end]}: {names[tag + 1]}", (text, tokens, batch), (place + 1, tag + 1)))
    return [_gradients(items, "the tag of one word"), *_attention(network, folder, shown)]


def integrated_gradients(network: TextNetwork, tokens: Tensor, mask: int, target: tuple[int, ...]) -> Tensor:
    """Integrated gradients of one output of the network (Sundararajan 2017).

    They add up to that output minus the output of the baseline, in which every token between the begin and end tokens is masked.

    Args:
        network: a network with a backbone that has token embeddings.
        tokens: tokens of one text, int64 [1, L].
        mask: number of the mask token.
        target: index of the output of the text.

    Returns:
        How much each token adds to the output, [L].
    """
    from captum.attr import LayerIntegratedGradients

    masked = tokens.clone()
    masked[:, 1:-1] = mask
    method = LayerIntegratedGradients(network, cast(nn.Module, network.backbone.token))
    chosen = target[0] if len(target) == 1 else target
    found = method.attribute(tokens, baselines=masked, target=cast(Any, chosen), n_steps=STEPS)
    return cast(Tensor, found).sum(2)[0].detach()


@torch.no_grad()
def attention(network: TextNetwork, tokens: Tensor) -> Tensor | None:
    """Attention weights of the last layer, the mean over its heads, [L, L]; None if the network has no attention."""
    backbone = network.backbone
    if isinstance(backbone, Pretrained):
        backbone.model.set_attn_implementation("eager")  # the fused implementations do not return attention weights
        outputs = backbone.model(input_ids=tokens, attention_mask=(tokens != network.padding).long(), output_attentions=True)
        return outputs.attentions[-1][0].mean(0) if outputs.attentions else None
    if not isinstance(backbone, SmallTransformer):
        return None
    weights: list[Tensor] = []
    last = cast(Any, backbone.blocks[-1]).attention
    handle = last.register_forward_pre_hook(lambda module, inputs: weights.append(module.weights(*inputs)))
    network(tokens)
    handle.remove()
    return weights[0][0].mean(0)


def _short_texts(folder: Path) -> Iterator[EncodedText]:
    """Short texts that are spread over the whole test split."""
    texts, tokenizer = Texts(folder / "test"), read_tokenizer(folder / "assets")
    lengths = np.diff(np.load(folder / "test" / "starts.npy"))
    short = np.flatnonzero((lengths > 1) & (lengths <= MAX_TOKENS))
    for row in short[np.unique(np.linspace(0, len(short) - 1, SHOWN).astype(int))] if len(short) else ():
        text = texts.texts([row])[0]
        tokens = tokenizer.encode([text])[0]
        yield text, tokens, torch.from_numpy(tokenizer.batch([tokens.numbers]))


def _item(network: TextNetwork, mask: int, title: str, encoded: EncodedText, target: tuple[int, ...]) -> Block:
    text, tokens, batch = encoded
    weights = integrated_gradients(network, batch, mask, target)[1:-1].double().numpy()
    word = np.cumsum(tokens.first) - 1
    per_word = np.bincount(word, weights)
    strongest = max(float(np.abs(per_word).max()), 1e-9)
    marks = [
        {"start": int(s), "end": int(e), "weight": float(weight) / strongest}
        for (s, e), weight in zip(tokens.words[tokens.first], per_word, strict=True)
    ]
    return {"title": title, "text": text, "marks": marks}


def _gradients(items: list[Block], what: str) -> Block:
    caption = f"How much each word adds to the network's score of {what}, compared with a text of masked words; struck through: it lowers the score."
    return {"kind": "words", "title": "Integrated gradients", "caption": caption, "items": items}


def _attention(network: TextNetwork, folder: Path, shown: list[EncodedText]) -> list[Block]:
    tokenizer = read_tokenizer(folder / "assets").tokenizer
    blocks = []
    for text, _, batch in sorted(shown, key=lambda one: one[2].shape[1])[:WITH_ATTENTION]:
        weights = attention(network, batch)
        if weights is None:
            continue
        names = [tokenizer.id_to_token(number) or "?" for number in batch[0].tolist()]
        blocks.append(
            {
                "kind": "matrix",
                "title": f"Attention: {text}",
                "caption": "Attention weights of the last layer in percent, the mean over its heads.",
                "labels": names,
                "values": (100 * weights).round().int().tolist(),
                "row_label": "query token",
                "column_label": "key token",
            }
        )
    return blocks
