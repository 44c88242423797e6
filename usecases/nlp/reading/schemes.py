"""Tags of tokens become spans, in any of the field's schemes, read as conlleval reads them (Tjong Kim Sang & De Meulder 2003).

Its rules for where an entity starts and ends need no scheme to be named, and mend what breaks one; the scheme only
says what counts as broken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

TAG = re.compile(r"^(?:[Oo]|([BIESLUMW])(?:[-_](.+))?)$")
SAME = {"M": "I", "L": "E", "U": "S", "W": "S"}  # BMES, BILOU and BMEWO write these for BIOES'
UNTYPED = "entity"
OUTSIDE = ("O", "")


def is_tag(word: str) -> bool:
    """O, B-PER, I_LOC, S: not a bare label."""
    return TAG.match(word) is not None


def parsed(tag: str, bare: bool = False) -> tuple[str, str]:
    """(prefix, type) of a tag; `bare`: tags are names of types without prefixes."""
    if tag in ("O", "o", ""):
        return OUTSIDE
    if bare:
        return "I", tag
    found = TAG.match(tag)
    if not found or not found[1]:
        return OUTSIDE
    return SAME.get(found[1], found[1]), found[2] or UNTYPED


class Decoder:
    """Turns sentences of tags into spans of tokens, and remembers what would break which scheme."""

    def __init__(self, bare: bool = False) -> None:
        self.bare = bare
        self.prefixes: Counter[str] = Counter()
        self.needless = 0  # B after another type or none: IOB1 writes I there
        self.headless: list[str] = []  # I or E that begins an entity: only IOB1 writes that
        self.endless: list[str] = []  # B or I that ends one: BIOES writes S or E there

    def spans(self, name: str, tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
        """(first token, token after the last, type) of each entity, in order."""
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
        """As most tags suggest; IOB1 and IOB2 differ in how an entity begins that follows no other of its type."""
        if self.bare:
            return "types without prefixes"
        if self.prefixes["S"] + self.prefixes["E"]:
            return "BIOES"
        return "IOB1" if len(self.headless) > self.needless else "IOB2"

    def broken(self) -> list[str]:
        """Of each place where the scheme is broken, the name of the sentence."""
        return {"BIOES": self.headless + self.endless, "IOB2": self.headless}.get(self.scheme, [])


def _starts(before: tuple[str, str], now: tuple[str, str]) -> bool:
    return now[0] != "O" and (now[0] in "BS" or before[0] in "OES" or before[1] != now[1])


def _ends(before: tuple[str, str], now: tuple[str, str]) -> bool:
    return before[0] != "O" and (before[0] in "ES" or now[0] in "OBS" or before[1] != now[1])
