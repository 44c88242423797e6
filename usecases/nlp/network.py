"""Networks over tokens: encoders, and their heads for classification, tagging and masked language modelling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from tasks.contract.errors import SettingError
from usecases.nlp.encoders import ENCODER
from usecases.nlp.tokenizer import TextTokenizer
from usecases.nlp.windows import read_labels, read_tokenizer
from usecases.transformer import Block, FactoredEmbedding, build_embedding

if TYPE_CHECKING:
    from usecases.nlp import TextSettings


class SmallTransformer(nn.Module):
    """A Transformer encoder (Vaswani 2017) with pre-layer normalisation: tokens int64 [B, L] to states [B, L, width]."""

    def __init__(self, settings: TextSettings, vocabulary: int) -> None:
        super().__init__()
        width = self.width = settings.width
        self.token = build_embedding(vocabulary, settings.token_rank, width)
        self.place = nn.Embedding(settings.length, width)
        nn.init.normal_(self.place.weight, std=width**-0.5)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(Block(width, settings.heads, 4 * width, settings.dropout) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """tokens int64 [B, L] and padding_mask bool [B, L], True at tokens and False at padding, to states [B, L, width]."""
        x = self.dropout(self.token(tokens) + self.place.weight[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x, padding_mask[:, None, None, :])
        return self.norm(x)

    def layers(self) -> list[nn.Module]:
        return [self.token, *self.blocks, self.norm]


class Recurrent(nn.Module):
    """A bidirectional LSTM (Graves 2005), with the inputs and outputs of `SmallTransformer`.

    The backward direction starts at the last token and never sees padding, so that an answer does not depend on its batch.
    """

    def __init__(self, settings: TextSettings, vocabulary: int) -> None:
        super().__init__()
        self.width, half = settings.width, settings.width // 2
        self.token = build_embedding(vocabulary, settings.token_rank, settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        self.onward = nn.ModuleList(nn.LSTM(settings.width, half, batch_first=True) for _ in range(settings.depth))
        self.back = nn.ModuleList(nn.LSTM(settings.width, half, batch_first=True) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """tokens int64 [B, L] and padding_mask bool [B, L], True at tokens and False at padding, to states [B, L, width]."""
        x = self.dropout(self.token(tokens))
        count = padding_mask.sum(1, keepdim=True)
        mirrored = count - 1 - torch.arange(tokens.shape[1], device=tokens.device)
        mirrored = torch.where(mirrored < 0, mirrored + tokens.shape[1], mirrored)[..., None]  # the padding stays at the end
        for onward, back in zip(self.onward, self.back, strict=True):
            turned = x.gather(1, mirrored.expand(-1, -1, x.shape[2]))
            forth, returned = run_lstm(onward, x), run_lstm(back, turned)
            x = self.dropout(torch.cat([forth, returned.gather(1, mirrored.expand(-1, -1, returned.shape[2]))], 2))
        return self.norm(x)

    def layers(self) -> list[nn.Module]:
        return [self.token, *self.onward, *self.back, self.norm]


def run_lstm(layer: nn.Module, x: Tensor) -> Tensor:
    """One direction of one layer, [B, L, D] to [B, L, H]. In a graph it is ONNX's LSTM operator, since the exporter would unroll torch's."""
    lstm = cast(nn.LSTM, layer)
    if not torch.onnx.is_in_onnx_export():
        return lstm(x)[0]
    size = lstm.hidden_size
    weights = [cast(Tensor, getattr(lstm, name)) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")]
    ours = [torch.cat([w[:size], w[3 * size :], w[size : 3 * size]])[None] for w in weights]  # gates: input, output, forget, cell
    inputs = (x.transpose(0, 1), ours[0], ours[1], torch.cat(ours[2:], 1))
    shape = (x.shape[1], 1, x.shape[0], size)
    states = torch.onnx.ops.symbolic("LSTM", inputs, {"hidden_size": size}, dtype=x.dtype, shape=shape)
    return states[:, 0].transpose(0, 1)


class Pretrained(nn.Module):
    """An encoder of transformers, with the inputs and outputs of `SmallTransformer`."""

    def __init__(self, model: Any, rank: int) -> None:
        super().__init__()
        self.model = model
        self.width = int(model.config.hidden_size)
        if rank:
            wide = model.get_input_embeddings()
            model.set_input_embeddings(FactoredEmbedding(wide.num_embeddings, min(rank, wide.embedding_dim // 2), wide.embedding_dim))

    def forward(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        return self.model(input_ids=tokens, attention_mask=padding_mask.long()).last_hidden_state

    @property
    def token(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def layers(self) -> list[nn.Module]:
        """The embeddings, then the layers: transformers keeps these in the longest list of modules."""
        lists = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        longest = max(lists, key=len)
        return [getattr(self.model, "embeddings", self.token), *longest]


Encoder = SmallTransformer | Recurrent | Pretrained


class TextNetwork(nn.Module):
    """An encoder with the number of its padding token. Subclasses add a head."""

    def __init__(self, backbone: Encoder, padding: int) -> None:
        super().__init__()
        self.backbone, self.padding = backbone, padding

    def encoded(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """tokens int64 [B, L] to states [B, L, width] and the padding mask, bool [B, L], True at tokens."""
        padding_mask = tokens != self.padding
        return self.backbone(tokens, padding_mask), padding_mask


def hidden_layers(network: TextNetwork) -> list[nn.Module]:
    """The layers between the token embeddings and the last norm."""
    return [layer for layer in network.backbone.layers()[1:] if not isinstance(layer, nn.LayerNorm)]


class Classifier(TextNetwork):
    """Mean pooling over the states of a text, and one linear layer: tokens [B, L] to logits [B, C]."""

    def __init__(self, backbone: Encoder, padding: int, card: dict[str, Any], dropout: float) -> None:
        super().__init__(backbone, padding)
        self.multi = bool(card["multi"])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.width, len(card["labels"]))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("rarity", _rarity(card), persistent=False)
        self.temperature: Tensor
        self.rarity: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        states, padding_mask = self.encoded(tokens)
        weight = padding_mask[..., None].to(states.dtype)
        mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1)
        return self.head(self.dropout(mean)).float()

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), self.head]


def _rarity(card: dict[str, Any]) -> Tensor:
    """Class weights, float32 [C]: the mean number of training texts per class divided by that of the class.

    If a text may have several labels: the number of texts without the label divided by that with it.
    """
    counts = torch.tensor([float(card["counts"].get(label, 0)) for label in card["labels"]]).clamp(min=1)
    return (float(card["texts"]) - counts).clamp(min=1) / counts if card["multi"] else counts.mean() / counts


class Tagger(TextNetwork):
    """A neural CRF (Lample 2016): scores of each tag at each token, and of each transition from tag to tag."""

    def __init__(self, backbone: Encoder, padding: int, tags: int, dropout: float) -> None:
        super().__init__(backbone, padding)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.width, tags)
        self.transitions = nn.Parameter(torch.zeros(tags + 1, tags))  # row 0: from the start

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L] to [B, L, T]"""
        return self.head(self.dropout(self.encoded(tokens)[0])).float()

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), _Head(self.head, self.transitions)]


class _Head(nn.Module):
    """The linear layer and the transitions, which are trained with the learning rate of a head."""

    def __init__(self, layer: nn.Linear, transitions: nn.Parameter) -> None:
        super().__init__()
        self.layer, self.transitions = layer, transitions


class MaskedLM(TextNetwork):
    """An encoder with an MLM head, whose output layer shares its weights with the token embeddings."""

    def __init__(self, backbone: Encoder, tokenizer: TextTokenizer) -> None:
        super().__init__(backbone, tokenizer.padding)
        self.marks, self.mask = (tokenizer.padding, tokenizer.begin, tokenizer.end), tokenizer.mask
        self.head = nn.Linear(backbone.width, backbone.width)
        self.norm = nn.LayerNorm(backbone.width)
        self.bias = nn.Parameter(torch.zeros(tokenizer.size))

    def forward(self, tokens: Tensor, masked: Tensor | None = None) -> Tensor:
        """tokens [B, L] to logits: [N, V] of the N positions where `masked`, bool [B, L], is True; without it [B, L, V] of all."""
        states = self.encoded(tokens)[0]
        states = self.norm(torch.nn.functional.gelu(self.head(states if masked is None else states[masked])))
        token = cast(Any, self.backbone.token)
        if isinstance(token, FactoredEmbedding):
            states = states @ token.widen.weight
        return states @ token.weight[: len(self.bias)].T + self.bias

    def layers(self) -> list[nn.Module]:
        return [*self.backbone.layers(), self.head]


class Probabilities(nn.Module):
    """The exported graph of a classifier."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        """int64 [B, L] to probabilities, float32 [B, C]."""
        logits = self.network(tokens) / self.network.temperature
        return (torch.sigmoid(logits) if self.network.multi else torch.softmax(logits, 1),)


class Scores(nn.Module):
    """The exported graph of a tagger."""

    def __init__(self, network: Tagger) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """int64 [B, L] to scores [B, L, T] and transitions [B, T + 1, T], float32."""
        return self.network(tokens), self.network.transitions.detach().float().expand(tokens.shape[0], -1, -1)


class TokenPredictions(nn.Module):
    """Token predictions of a network with an MLM head."""

    def __init__(self, network: MaskedLM) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        """int64 [B, L] to the most probable token at each position, int64 [B, L]."""
        return (self.network(tokens).argmax(2),)


# -- building ----------------------------------------------------------------------------------------------------------
def build_encoder(settings: TextSettings, assets: Path) -> Encoder:
    """The encoder of the settings. A pretrained one has its weights if they are next to the assets, as they are for training.

    Raises:
        SettingError: the width is not a multiple of the number of heads.
    """
    vocabulary = read_tokenizer(assets).size
    if settings.encoder:
        return _pretrained(settings, assets)
    if settings.model == "lstm":
        return Recurrent(settings, vocabulary)
    if settings.width % settings.heads:
        raise SettingError(
            f"--usecase.heads {settings.heads} does not divide --usecase.width {settings.width}. Set a number of heads that does."
        )
    return SmallTransformer(settings, vocabulary)


def _pretrained(settings: TextSettings, assets: Path) -> Pretrained:
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(assets / ENCODER)
    config.num_hidden_layers = max(1, round(settings.kept_layers * config.num_hidden_layers))
    weights = assets.parent / ENCODER
    if weights.is_dir():
        model = AutoModel.from_pretrained(weights, config=config, attn_implementation="sdpa")
    else:
        model = AutoModel.from_config(config, attn_implementation="sdpa")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    if settings.length > getattr(model.config, "max_position_embeddings", settings.length):
        raise SettingError(
            f"--usecase.length {settings.length}: {settings.encoder} reads at most {model.config.max_position_embeddings} tokens. "
            f"Set --usecase.length {model.config.max_position_embeddings} or less."
        )
    return Pretrained(model.float(), settings.token_rank)


def build_classifier(settings: TextSettings, assets: Path) -> Classifier:
    return Classifier(build_encoder(settings, assets), read_tokenizer(assets).padding, read_labels(assets), settings.head_dropout)


def build_tagger(settings: TextSettings, assets: Path) -> Tagger:
    tags = 1 + 2 * len(read_labels(assets)["labels"])
    return Tagger(build_encoder(settings, assets), read_tokenizer(assets).padding, tags, settings.head_dropout)


def build_masked_lm(settings: TextSettings, assets: Path) -> MaskedLM:
    return MaskedLM(build_encoder(settings, assets), read_tokenizer(assets))
