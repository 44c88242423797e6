"""What a trained network looks at, asked in torch: integrated gradients and attention."""

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
MAX_TOKENS = 32  # of a text that is shown
STEPS = 32  # of the integral
Block = dict[str, Any]
Read = tuple[str, Tokens, Tensor]
"""A text, its tokens, and these as the network's input, int64 [1, L]."""


def class_blocks(network: Classifier, folder: Path) -> list[Block]:
    """For the report: which words speak for the class that the network sees, and where its last layer looks."""
    labels, read = read_labels(folder / "assets")["labels"], list(_short_texts(folder))
    mask, items = read_tokenizer(folder / "assets").mask, []
    for text, tokens, batch in read:
        label = int(network(batch).argmax())
        items.append(_item(network, mask, labels[label], (text, tokens, batch), (label,)))
    return [_gradients(items, "the class"), *_attention(network, folder, read)]


def entity_blocks(network: Tagger, folder: Path) -> list[Block]:
    """For the report: which words speak for the surest tag that the network sees, and where its last layer looks."""
    names, read = tag_names(read_labels(folder / "assets")["labels"]), list(_short_texts(folder))
    mask, items = read_tokenizer(folder / "assets").mask, []
    for text, tokens, batch in read:
        surest = network(batch)[0, 1:-1, 1:].softmax(1)[torch.from_numpy(tokens.first)]
        if not len(surest):
            continue
        word, tag = divmod(int(surest.argmax()), surest.shape[1])
        place = int(np.flatnonzero(tokens.first)[word])
        start, end = tokens.words[place]
        items.append(_item(network, mask, f"{text[start:end]}: {names[tag + 1]}", (text, tokens, batch), (place + 1, tag + 1)))
    return [_gradients(items, "the tag of one word"), *_attention(network, folder, read)]


def integrated_gradients(network: TextNetwork, tokens: Tensor, mask: int, target: tuple[int, ...]) -> Tensor:
    """How much each token adds to one output of the network, [L] (Sundararajan 2017).

    The sum is that output minus what it is when every token between the marks of beginning and end is hidden.

    Args:
        tokens: of one text, int64 [1, L].
        mask: the token that hides one.
        target: which output of the text, as an index.
    """
    from captum.attr import LayerIntegratedGradients

    hidden = tokens.clone()
    hidden[:, 1:-1] = mask
    method = LayerIntegratedGradients(network, cast(nn.Module, network.backbone.token))
    chosen = target[0] if len(target) == 1 else target
    found = method.attribute(tokens, baselines=hidden, target=cast(Any, chosen), n_steps=STEPS)
    return cast(Tensor, found).sum(2)[0].detach()


@torch.no_grad()
def attention(network: TextNetwork, tokens: Tensor) -> Tensor | None:
    """How much each token looks at each other in the last layer, the mean over its heads, [L, L]; None: it has no attention."""
    backbone = network.backbone
    if isinstance(backbone, Pretrained):
        backbone.model.set_attn_implementation("eager")  # the quick ones keep no weights
        told = backbone.model(input_ids=tokens, attention_mask=(tokens != network.padding).long(), output_attentions=True)
        return told.attentions[-1][0].mean(0) if told.attentions else None
    if not isinstance(backbone, SmallTransformer):
        return None
    seen: list[Tensor] = []
    last = cast(Any, backbone.blocks[-1]).attention
    handle = last.register_forward_pre_hook(lambda module, given: seen.append(module.weights(*given)))
    network(tokens)
    handle.remove()
    return seen[0][0].mean(0)


def _short_texts(folder: Path) -> Iterator[Read]:
    """Some texts of the test split that fit a page, spread over all of it."""
    texts, tokenizer = Texts(folder / "test"), read_tokenizer(folder / "assets")
    lengths = np.diff(np.load(folder / "test" / "starts.npy"))
    short = np.flatnonzero((lengths > 1) & (lengths <= MAX_TOKENS))
    for row in short[np.unique(np.linspace(0, len(short) - 1, SHOWN).astype(int))] if len(short) else ():
        text = texts.texts([row])[0]
        tokens = tokenizer.encode([text])[0]
        yield text, tokens, torch.from_numpy(tokenizer.batch([tokens.numbers]))


def _item(network: TextNetwork, mask: int, title: str, read: Read, target: tuple[int, ...]) -> Block:
    text, tokens, batch = read
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
    caption = f"What each word adds to the trained network's score of {what}, beside a text of hidden words; struck through: it takes away."
    return {"kind": "words", "title": "Integrated gradients", "caption": caption, "items": items}


def _attention(network: TextNetwork, folder: Path, read: list[Read]) -> list[Block]:
    tokenizer = read_tokenizer(folder / "assets").tokenizer
    blocks = []
    for text, _, batch in sorted(read, key=lambda one: one[2].shape[1])[:WITH_ATTENTION]:
        weights = attention(network, batch)
        if weights is None:
            continue
        names = [tokenizer.id_to_token(number) or "?" for number in batch[0].tolist()]
        blocks.append(
            {
                "kind": "matrix",
                "title": f"Attention: {text}",
                "caption": "In percent, in the last layer of the trained network, the mean over its heads.",
                "labels": names,
                "values": (100 * weights).round().int().tolist(),
                "row_label": "token that looks",
                "column_label": "token that is looked at",
            }
        )
    return blocks
