"""Words in any script, with places in the original string."""

from __future__ import annotations

from itertools import pairwise

import pytest

from usecases.nlp.words import words


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\r\n\u3000\ufeff\u200b", []),
        ("Don't pay 20%!", ["Don", "'", "t", "pay", "20", "%", "!"]),
        ("naïve", ["naïve"]),
        ("nai\u0308ve cafe\u0301s", ["nai\u0308ve", "cafe\u0301s"]),
        ("snake_case", ["snake", "_", "case"]),
        ("Müller aß Öl", ["Müller", "aß", "Öl"]),
        ("ሰላም ለዓለም።", ["ሰላም", "ለዓለም", "።"]),
        ("مَرْحَبًا بالعالم؟", ["مَرْحَبًا", "بالعالم", "؟"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("क्\u200dष", ["क्\u200dष"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("温格的球队2比1胜", ["温", "格", "的", "球", "队", "2", "比", "1", "胜"]),
        ("我用iPhone15拍照。", ["我", "用", "iPhone15", "拍", "照", "。"]),
        ("ひらカタ", ["ひ", "ら", "カ", "タ"]),
        ("𠮷野家", ["𠮷", "野", "家"]),
        ("二〇〇八", ["二", "〇", "〇", "八"]),
        ("ที่นี่", ["ที่", "นี่"]),
    ],
)
def test_scripts(text: str, expected: list[str]) -> None:
    assert split(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ok👍🏽!", ["ok", "👍🏽", "!"]),
        ("👨‍👩‍👧‍👦👩‍⚕️", ["👨‍👩‍👧‍👦", "👩‍⚕️"]),
        ("🏳️‍🌈 ❤️", ["🏳️‍🌈", "❤️"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("🇩🇪🇫", ["🇩🇪", "🇫"]),
        ("😀😀", ["😀", "😀"]),
        ("1️⃣ 2", ["1️⃣", "2"]),
        ("🏴\U000e0067\U000e0062\U000e007f!", ["🏴\U000e0067\U000e0062\U000e007f", "!"]),
    ],
)
def test_an_emoji_is_one_word_however_many_code_points(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_whatever_is_visible_is_in_one_word_and_order_is_kept() -> None:
    text = "\u0301 a\u200d! \ud800 🇩🇪👍🏽 中x\u0301文 ---\u00adb"
    found = words(text)
    assert all(start < end for start, end in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    covered = {place for start, end in found for place in range(start, end)}
    assert covered == {place for place, character in enumerate(text) if not character.isspace()}
