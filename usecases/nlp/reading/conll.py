"""CoNLL column files: a token and its tag per line, an empty line between sentences. Sentences become texts, tags become spans."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from tasks.contract.errors import DataError
from tasks.contract.findings import NAMED, Findings
from usecases.nlp.reading.schemes import Decoder, is_tag
from usecases.nlp.sources import Item, Source, Span
from usecases.reading.encodings import TextFile
from usecases.reading.tables import DataFile

if TYPE_CHECKING:
    from usecases.nlp import TextSettings

# Han, kana and bopomofo with their punctuation and full-width forms; Korean is written with spaces
CJK = re.compile("[\u2e80-\u2fdf\u3000-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff]")
CHUNKS = {"NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP"}
MIN_SHARE = 0.95  # share of the lines that must have tags
BARE_TYPES = 50  # largest number of distinct tags without prefixes
SEGMENTED = re.compile(r"^.\d$")


class Sentences:
    """Collects sentences of tokens and tags, since the tagging scheme and the script are known only after all of them."""

    def __init__(self, bare: bool = False) -> None:
        self.decoder = Decoder(bare)
        self.held: list[tuple[str, list[str], list[tuple[int, int, str]], str | None]] = []
        self.counts: Counter[str] = Counter()

    def add(self, name: str, tokens: list[str], tags: Sequence[str], split: str | None) -> None:
        self.held.append((name, tokens, list(self.decoder.spans(name, tags)), split))
        self.counts["tokens"] += len(tokens)
        self.counts["single"] += sum(len(token) == 1 for token in tokens)
        self.counts["cjk"] += sum(CJK.match(token) is not None for token in tokens)
        self.counts["segmented"] += sum(SEGMENTED.match(token) is not None for token in tokens)

    def source(self, layout: str, findings: Findings) -> Source:
        broken = self.decoder.broken()
        for name in broken[:NAMED]:
            findings.note("invalid sequence of tags", name, "repaired as conlleval does")
        if len(broken) > NAMED:
            findings.note("invalid sequence of tags", "", "repaired as conlleval does", len(broken) - NAMED)
        segmented = self.counts["segmented"] >= 0.99 * self.counts["tokens"] > 0
        single, chinese = (self.counts[kind] / max(self.counts["tokens"], 1) for kind in ("single", "cjk"))
        by_character = segmented or (single >= MIN_SHARE and chinese >= 0.5)
        if segmented:
            findings.note("tokens with a segmentation digit", "", "the digit is removed", self.counts["segmented"])
        items = []
        while self.held:  # from the end, so that no sentence is in memory twice
            name, tokens, spans, split = self.held.pop()
            text, starts, ends = joined([t[0] if segmented else t for t in tokens], by_character)
            marked = tuple(Span(starts[first], ends[past - 1], label) for first, past, label in spans)
            items.append(Item(name, text, (), marked, split))
        items.reverse()
        return Source(f"{layout}, {self.decoder.scheme}", "entities", items, findings=findings)


def joined(tokens: Sequence[str], by_character: bool = False) -> tuple[str, list[int], list[int]]:
    """Join tokens to a text, without spaces between Chinese or Japanese characters.

    Returns the text, and the offsets of the start and the end of each token.
    """
    gaps = [
        "" if by_character or not before or not after or (CJK.match(before[-1]) and CJK.match(after[0])) else " "
        for before, after in pairwise(tokens)
    ]
    pieces = [token + gap for token, gap in zip(tokens, [*gaps, ""], strict=True)]
    starts = [0, *accumulate(map(len, pieces))][: len(tokens)]
    return "".join(pieces), starts, [start + len(token) for start, token in zip(starts, tokens, strict=True)]


# -- detecting --------------------------------------------------------------------------------------------------------
def is_conll(lines: Sequence[str], settings: TextSettings) -> bool:
    """Whether lines are tokens with a tag each."""
    return _tag_columns(_tokens(lines), settings.label_column) != []


def _tokens(lines: Sequence[str]) -> list[list[str]]:
    separator = _separator(lines)
    return [_cells(line, separator) for line in lines if not _is_between(line) and not _is_comment(line, separator)]


def _cells(line: str, separator: re.Pattern[str]) -> list[str]:
    cells = separator.split(line)
    return cells if cells[-1] else cells[:-1]  # a separator at the end of a line


def _separator(lines: Sequence[str]) -> re.Pattern[str]:
    filled = [line for line in lines if line.strip()]
    return re.compile("\t" if sum("\t" in line.strip() for line in filled) > 0.9 * len(filled) else "[ \t]+")


def _is_between(line: str) -> bool:
    return not line.strip() or line.startswith("-DOCSTART-")


def _is_comment(line: str, separator: re.Pattern[str]) -> bool:
    """Whether a line is a comment: it starts with #, and is not the token # or a hashtag with its tag."""
    cells = separator.split(line.strip())
    return line.startswith("#") and not is_tag(cells[-1]) and not (len(cells) == 2 and cells[0] == "#")


def _tag_columns(rows: list[list[str]], asked: str) -> list[int]:
    """The columns that hold only tags. Tags without prefixes are accepted if many tokens are outside of entities."""
    if len(rows) < 2:
        return []
    width = Counter(map(len, rows)).most_common(1)[0][0]
    rows = [row for row in rows if len(row) == width]
    if width < 2:
        return []
    if asked.isdecimal() and int(asked) < width:
        return [int(asked)] if _are_tags([row[int(asked)] for row in rows]) or _are_bare([row[int(asked)] for row in rows]) else []
    tagged = [i for i in range(width) if _are_tags([row[i] for row in rows])]
    named = [i for i in tagged if not {row[i][2:] for row in rows if row[i][1:2] == "-"} & CHUNKS]
    if named or tagged:
        return named or tagged
    return [width - 1] if _are_bare([row[-1] for row in rows]) else []


def _are_tags(values: Sequence[str]) -> bool:
    return sum(map(is_tag, values)) >= MIN_SHARE * len(values)


def _are_bare(values: Sequence[str]) -> bool:
    counts = Counter(values)
    return counts["O"] >= 0.4 * len(values) and 2 <= len(counts) <= BARE_TYPES and len(counts) <= len(values) / 5


# -- reading ----------------------------------------------------------------------------------------------------------
def read_conll(files: Sequence[tuple[DataFile, TextFile]], settings: TextSettings, findings: Findings) -> Source:
    """Read the sentences of column files.

    Args:
        files: the files with their texts.
        settings: settings that may name the columns.
        findings: problems of the files are added to them.

    Returns:
        The sentences as texts with spans.

    Raises:
        DataError: no column holds tags, or a column of the settings does not exist.
    """
    rows = _tokens(files[0][1].head)
    tagged = _tag_columns(rows, settings.label_column)
    if not tagged:
        raise DataError(
            f"{files[0][0].path} has no column of tags such as O, B-PER, I-PER. Give the number of the column, from 0, with --usecase.label_column."
        )
    tag = tagged[-1]
    token = _token_column(rows, tag, settings.text_column)
    if len(tagged) > 1:
        others = ", ".join(map(str, tagged[:-1]))
        findings.note(
            "more than one column of tags", f"{others} and {tag}", f"column {tag} is read; choose another with --usecase.label_column"
        )
    bare = not _are_tags([row[tag] for row in rows if len(row) > tag])
    sentences = Sentences(bare)
    for found, file in files:
        for name, lines in _sentences(found, file):
            _add(sentences, name, lines, token, tag, found.split, findings)
    return sentences.source(f"CoNLL columns, token {token} and tag {tag}", findings)


def _token_column(rows: list[list[str]], tag: int, asked: str) -> int:
    """The first column that does not hold numbers, unless another holds at least three times as many distinct words."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    if asked:
        if not asked.isdecimal() or int(asked) >= width:
            raise DataError(f"--usecase.text_column {asked}: the number of the column of tokens was expected, from 0 to {width - 1}.")
        return int(asked)
    columns = {i: [row[i] for row in rows if len(row) == width] for i in range(width) if i != tag}
    words = {i: len(set(column)) for i, column in columns.items() if not all(cell.isdecimal() for cell in column)} or {0: 1}
    first, most = min(words), max(words, key=lambda i: words[i])
    return first if words[first] * 3 >= words[most] else most


def _sentences(found: DataFile, file: TextFile) -> Iterator[tuple[str, list[list[str]]]]:
    separator = _separator(file.head)
    name, held = "", []
    for number, line in enumerate(file.lines(), start=1):
        if _is_between(line):
            if held:
                yield name, held
            held = []
        elif not _is_comment(line, separator):
            name = name if held else f"{found.name} line {number}"
            held.append(_cells(line, separator))
    if held:
        yield name, held


def _add(sentences: Sentences, name: str, rows: list[list[str]], token: int, tag: int, split: str | None, findings: Findings) -> None:
    wrong = [row for row in rows if len(row) <= max(token, tag) or not (sentences.decoder.bare or is_tag(row[tag]))]
    if wrong:
        findings.set_aside("sentence with a line without a token and a tag", f"{name}: {' '.join(wrong[0])!r:.80}")
        return
    kept = [row for row in rows if row[token]]
    if len(kept) < len(rows):
        findings.note("line without a token", name, "left out", len(rows) - len(kept))
    if kept:
        sentences.add(name, [row[token] for row in kept], [row[tag] for row in kept], split)
