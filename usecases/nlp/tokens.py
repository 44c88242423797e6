"""The tokenizer of a data set, trained on it or taken from the encoder, and the tokens of its texts on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.types import Say
from usecases.nlp.encoders import fetch_encoder
from usecases.nlp.sources import Span
from usecases.nlp.tags import spans_to_tags
from usecases.nlp.texts import Texts
from usecases.nlp.tokenizer import SPECIAL, TextTokenizer, write_card

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

SPLITS = ("train", "validation", "test")
READ_AT_ONCE = 1024
MAX_UNKNOWN = 0.05  # share of unknown tokens above which the encoder does not know the language
MAX_WORD_CHARACTERS = 60  # a longer word becomes the unknown token
ALPHABET = 8000  # number of single characters in the vocabulary
FIRST_PRIVATE = 0xF0000  # first character of a private use area of Unicode


def write_tokens(settings: TextSettings, folder: Path, say: Say) -> dict[str, Any]:
    """Train or fetch the tokenizer, and write the tokens of every split.

    Args:
        settings: settings of the encoder and the tokenizer.
        folder: folder of the prepared data set.
        say: reports progress.

    Returns:
        Facts about the tokens for the card of the data set.

    Raises:
        SettingError: the encoder cannot be loaded.
    """
    if settings.encoder:
        say(f"fetching {settings.encoder}")
        fetch_encoder(settings.encoder, folder)
    else:
        say("training the tokenizer")
        train_tokenizer(settings, folder)
    tokenizer = TextTokenizer(folder / "assets")
    card = json.loads((folder / "assets" / "labels.json").read_text(encoding="utf-8"))
    types = card["labels"] if card["task"] == "entities" else None
    lengths, unknown = [], 0
    unknown_number = tokenizer.tokenizer.token_to_id("[UNK]")
    for split in SPLITS:
        say(f"tokens of {split}")
        texts = Texts(folder / split)
        numbers = _write(folder / split, tokenizer, texts, types)
        lengths.append(np.diff(np.load(folder / split / "starts.npy")))
        unknown += int((numbers == unknown_number).sum()) if unknown_number is not None else 0
    if (folder / "unlabelled.jsonl").exists():
        say("tokens of the unlabelled texts")
        _write_unlabelled(folder, tokenizer)
    length = np.concatenate(lengths)
    foreign = unknown / max(int(length.sum()), 1)
    if foreign > MAX_UNKNOWN:
        say(f"{foreign:.0%} of the tokens are unknown to the tokenizer")
    return {
        "tokens": f"median {np.median(length):.0f}, 95 % below {np.percentile(length, 95):.0f}, at most {length.max()}",
        "truncated": f"{(length > settings.length - 2).mean():.1%} of the texts are longer than {settings.length} tokens: "
        + ("read in overlapping windows" if settings.long == "windows" else "truncated"),
        "unknown": f"{foreign:.3%} of the tokens are unknown"
        + (": the encoder does not know the language; try another, or leave --usecase.encoder empty" if foreign > MAX_UNKNOWN else ""),
        "vocabulary": tokenizer.size,
    }


# -- tokenizer ---------------------------------------------------------------------------------------------------------
def train_tokenizer(settings: TextSettings, folder: Path) -> None:
    """Train a WordPiece tokenizer (Schuster 2012) on the training texts and the unlabelled texts; each Chinese character is a word.

    Case is kept for entity recognition and dropped for classification.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    card = json.loads((folder / "assets" / "labels.json").read_text(encoding="utf-8"))
    normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=card["task"] == "classification")
    splitter = pre_tokenizers.BertPreTokenizer()
    words = ([word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))] for text in _training_texts(folder))
    pieces = word_pieces(words, settings.vocabulary - len(SPECIAL))
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARACTERS))  # pyright: ignore[reportCallIssue]
    tokenizer.normalizer = normalizer  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = splitter  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "assets" / "tokenizer.json"))
    write_card(folder / "assets", tokenizer, dict(zip(("padding", "begin", "end", "mask"), (0, 2, 3, 4), strict=True)))


def word_pieces(texts: Iterable[Sequence[str]], size: int) -> list[str]:
    """Train the vocabulary of WordPiece deterministically: the same texts give the same pieces.

    The WordPiece trainer of `tokenizers` numbers characters inside of words in the order of a hash table, which differs from run to run,
    and so breaks ties between pairs at random. Therefore characters inside of words are replaced by private characters here, and byte pair
    encoding (Sennrich 2016) is trained, which is the same algorithm without the prefix `##`.

    Args:
        texts: the words of each text.
        size: largest number of pieces, including single characters.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    kept = [list(words) for words in texts]
    counts = Counter(character for words in kept for word in words for character in word)
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:ALPHABET])
    inside = {character: chr(FIRST_PRIVATE + number) for number, character in enumerate(alphabet)}
    outside = {written: character for character, written in inside.items()}

    def written(word: str) -> str:
        characters = [character for character in word if character in inside]
        return "".join([*characters[:1], *(inside[character] for character in characters[1:])])

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((" ".join(map(written, words)) for words in kept), trainer)
    found = tokenizer.get_vocab()
    plain = ("".join(outside.get(character, character) for character in piece) for piece in found)
    prefixed = [f"##{piece}" if raw[0] in outside else piece for raw, piece in zip(found, plain, strict=True)]
    return [piece for _, piece in sorted(zip(found.values(), prefixed, strict=True))]


def _training_texts(folder: Path) -> Iterator[str]:
    texts = Texts(folder / "train")
    for start in range(0, len(texts), READ_AT_ONCE):
        yield from texts.texts(range(start, min(start + READ_AT_ONCE, len(texts))))
    yield from _unlabelled(folder)


def _unlabelled(folder: Path) -> Iterator[str]:
    path = folder / "unlabelled.jsonl"
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)["text"]


# -- tokens ------------------------------------------------------------------------------------------------------------
def _write(folder: Path, tokenizer: TextTokenizer, texts: Texts, types: list[str] | None) -> np.ndarray:
    """Write `tokens.npy` of all texts in a row and `starts.npy` of each text; for entities also `first`, `words` and `tags`."""
    numbers, starts = [], [0]
    first, words, tags = [], [], []
    for start in range(0, len(texts), READ_AT_ONCE):
        rows = range(start, min(start + READ_AT_ONCE, len(texts)))
        found = tokenizer.encode(texts.texts(rows))
        spans: list[list[Span]] = texts.spans(rows) if types else [[] for _ in rows]
        for tokens, marked in zip(found, spans, strict=True):
            numbers.append(tokens.numbers)
            starts.append(starts[-1] + len(tokens))
            if types:
                first.append(tokens.first)
                words.append(tokens.words)
                tags.append(_tags(tokens.first, tokens.words, marked, types))
    every = np.concatenate([*numbers, np.zeros(0, dtype=np.int32)])
    np.save(folder / "tokens.npy", every)
    np.save(folder / "starts.npy", np.array(starts, dtype=np.int64))
    if types:
        for name, parts in (("first", first), ("words", words), ("tags", tags)):
            np.save(folder / f"{name}.npy", np.concatenate(parts))
    return every


def _tags(first: np.ndarray, words: np.ndarray, spans: list[Span], types: list[str]) -> np.ndarray:
    """The tag of each word at its first token, and -1 at its other tokens, int16 [n]."""
    tags = np.full(len(first), -1, dtype=np.int16)
    tags[first] = spans_to_tags(words[first], spans, types)
    return tags


def _write_unlabelled(folder: Path, tokenizer: TextTokenizer) -> None:
    numbers, starts, waiting = [], [0], []

    def flush() -> None:
        for tokens in tokenizer.encode(waiting):
            numbers.append(tokens.numbers)
            starts.append(starts[-1] + len(tokens))
        waiting.clear()

    for text in _unlabelled(folder):
        waiting.append(text)
        if len(waiting) == READ_AT_ONCE:
            flush()
    flush()
    (folder / "unlabelled").mkdir(exist_ok=True)
    np.save(folder / "unlabelled" / "tokens.npy", np.concatenate([*numbers, np.zeros(0, dtype=np.int32)]))
    np.save(folder / "unlabelled" / "starts.npy", np.array(starts, dtype=np.int64))
