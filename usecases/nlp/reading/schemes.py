"""Spans from the tags of tokens in any of the field's schemes, read as conlleval reads them (Tjong Kim Sang & De Meulder 2003).

The rules of conlleval for the start and the end of an entity apply to any scheme, and repair invalid sequences; the scheme only decides
which sequences are reported as invalid.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

TAG = re.compile(r"^(?:[Oo]|([BIESLUMW])(?:[-_](.+))?)$")
SAME = {"M": "I", "L": "E", "U": "S", "W": "S"}  # prefixes of BMES, BILOU and BMEWO, and those of BIOES
UNTYPED = "entity"
OUTSIDE = ("O", "")


def is_tag(word: str) -> bool:
    """Whether a word is a tag with a prefix, such as O, B-PER, I_LOC or S."""
    return TAG.match(word) is not None


def parsed(tag: str, bare: bool = False) -> tuple[str, str]:
    """Prefix and type of a tag; `bare`: tags are types without prefixes."""
    if tag in ("O", "o", ""):
        return OUTSIDE
    if bare:
        return "I", tag
    found = TAG.match(tag)
    if not found or not found[1]:
        return OUTSIDE
    return SAME.get(found[1], found[1]), found[2] or UNTYPED


class Decoder:
    """Converts sentences of tags to spans of tokens, and counts the sequences that are invalid in each scheme."""

    def __init__(self, bare: bool = False) -> None:
        self.bare = bare
        self.prefixes: Counter[str] = Counter()
        self.needless = 0  # number of B- tags after another type or none, where IOB1 has I-
        self.headless: list[str] = []  # sentences with an I- or E- tag that starts an entity, valid in IOB1 only
        self.endless: list[str] = []  # sentences with a B- or I- tag that ends an entity, where BIOES has S- or E-

    def spans(self, name: str, tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
        """First token, last token plus one, and type of each entity, in order."""
        before, start = OUTSIDE, 0
        for place, tag in enumerate([*tags, "O"]):
            now = parsed(tag, self.bare)
            if place < len(tags):
                self.prefixes[now[0]] += 1
            if _ends(before, now):
                yield start, place, before[1]
                if before[0] in "BI":
                    self.endless.append(name)
            if _starts(before, now):
                start = place
                self._look_at_start(name, before, now)
            before = now

    def _look_at_start(self, name: str, before: tuple[str, str], now: tuple[str, str]) -> None:
        if now[0] in "IE":
            self.headless.append(name)
        elif now[0] == "B" and before[1] != now[1]:
            self.needless += 1

    @property
    def scheme(self) -> str:
        """The scheme that most tags suggest. IOB1 and IOB2 differ in the tag of an entity's start after no entity of its type."""
        if self.bare:
            return "types without prefixes"
        if self.prefixes["S"] + self.prefixes["E"]:
            return "BIOES"
        return "IOB1" if len(self.headless) > self.needless else "IOB2"

    def broken(self) -> list[str]:
        """The name of the sentence for each tag that is invalid in the scheme."""
        return {"BIOES": self.headless + self.endless, "IOB2": self.headless}.get(self.scheme, [])


def _starts(before: tuple[str, str], now: tuple[str, str]) -> bool:
    return now[0] != "O" and (now[0] in "BS" or before[0] in "OES" or before[1] != now[1])


def _ends(before: tuple[str, str], now: tuple[str, str]) -> bool:
    return before[0] != "O" and (before[0] in "ES" or now[0] in "OBS" or before[1] != now[1])
