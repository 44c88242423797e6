"""Words of a text in any script, with their character offsets. Standard library only, since it runs in the server."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal
from unicodedata import category

Kind = Literal["space", "letter", "single", "mark", "joiner", "flag", "symbol"]

UNSPACED = (  # scripts without spaces between words: each letter is a word, since an entity can start at any of them
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # marks of repetition, the Chinese zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x9FFF),  # Chinese characters
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # Katakana of half width
    (0x20000, 0x3FFFF),
)
JOINER = "\u200d"  # makes one emoji of several, and joins letters of Indian scripts
INVISIBLE_MARKS = ("\u200c", "\u00ad")  # inside words: the non-joiner of Persian, the soft hyphen
FLAGS, SKINS, TAGS = (0x1F1E6, 0x1F1FF), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F)


def words(text: str) -> list[tuple[int, int]]:
    """Start and end, exclusive, of each word of the text, in characters.

    A run of letters, digits and their marks is a word; so is each letter of a script that puts no space between words,
    and each other visible sign, an emoji of several code points being one.
    """
    found: list[tuple[int, int]] = []
    base: Kind = "space"  # kind of the first character of the last word
    joined = False  # whether the last word ends with a joiner
    for place, character in enumerate(text):
        kind = _kind(character)
        if kind == "space":
            base, joined = "space", False
        elif base != "space" and (
            kind in ("mark", "joiner") or kind == base == "letter" or kind == base == "flag" or (joined and kind == base)
        ):
            found[-1] = (found[-1][0], place + 1)
            joined = kind == "joiner"
            base = "symbol" if kind == "flag" else base  # a flag is two letters
        else:
            found.append((place, place + 1))
            base, joined = kind, kind == "joiner"
    return found


@lru_cache(maxsize=65536)
def _kind(character: str) -> Kind:
    code, group = ord(character), category(character)
    if character == JOINER:
        return "joiner"
    if group[0] == "M" or character in INVISIBLE_MARKS or _within(code, SKINS) or _within(code, TAGS):
        return "mark"
    if group[0] == "Z" or group in ("Cc", "Cf"):
        return "space"
    if _within(code, FLAGS):
        return "flag"
    if group[0] not in "LN":
        return "symbol"
    return "single" if (group[0] == "L" and any(_within(code, block) for block in UNSPACED)) or character == "〇" else "letter"


def _within(code: int, block: tuple[int, int]) -> bool:
    return block[0] <= code <= block[1]
