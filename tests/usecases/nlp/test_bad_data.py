"""Unusable data: errors name what is wrong, and unusable texts are set aside and reported by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.contract.errors import DataError
from tests.usecases.changes import unnoticed_changes
from tests.usecases.nlp.texts import (
    CLASS_LAYOUTS,
    ENTITIES,
    ENTITY_LAYOUTS,
    TEXTS,
    Read,
    class_folders,
    classes,
    columns,
    conll_space,
    csv_with_header,
    doccano,
    entities,
    found,
    json_lines,
    parallel,
    prepared,
    quoted,
    tsv_of_glue,
    write,
)  # fmt: skip
from usecases.nlp.sources import Span
from usecases.nlp.texts import Texts

Make = Callable[[Path], Path]
GOOD_ROWS = "".join(f"{quoted(t)},{c}\n" for t, c in TEXTS.items())
MANY_ROWS = "".join(f"{quoted(f'{t} {i}')},{c}\n" for i in range(5) for t, c in TEXTS.items())


def file(text: str, name: str = "all.csv", encoding: str = "utf-8") -> Make:
    return lambda folder: write(folder / name, text, encoding)


def added(text: str, rows: str = MANY_ROWS, header: str = "text,label\n") -> Make:
    return file(header + rows + text)


def spans(*more: dict[str, Any]) -> Make:
    def make(folder: Path) -> Path:
        path = doccano(folder)
        return write(path, path.read_text() + "".join(json.dumps(row) + "\n" for row in more))

    return make


def empty_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def several_data_sets(folder: Path) -> Path:
    for name in ("swa", "hau"):
        for split in ("train", "test"):
            write(folder / name / f"{split}.txt", columns("{token} {tag}", "IOB2"))
    return folder


def unequal(folder: Path) -> Path:
    parallel(folder)
    write(folder / "train_labels.txt", "0\n1\n")
    return folder


def one_class(folder: Path) -> Path:
    for i in range(9):
        write(folder / "good" / f"{i}.txt", f"text {i}")
        write(folder / "bad" / f"{i}.txt", " ")
    return folder


REFUSED: list[tuple[str, Make, dict[str, Any], str]] = [
    ("nothing there", lambda f: f / "nowhere", {}, "nowhere does not exist. Give a folder or file"),
    ("empty folder", empty_folder, {}, "No texts were found in"),
    ("several data sets", several_data_sets, {}, "is not a data set itself. Give one of its folders: hau, swa"),
    ("archive", file("PK", "all.zip"), {}, "all.zip is an archive. Unpack it"),
    ("unknown kind", file("x", "all.docx"), {}, "has no known layout"),
    ("empty file", file(""), {}, "all.csv is empty. It should hold a text with its label, or with its entities per row"),
    ("header only", file("text,label\n"), {}, "No texts were found in --usecase.data"),
    ("lines only", file("one\ntwo\nthree\n", "all.txt"), {}, "holds a text per line. Give a table with a text with its label, or with its entities per row"),
    ("no labels", file("id,text\n1,one and two\n2,three and four\n"), {}, "No label column was found in all.csv: its columns other than the text are id"),
    ("ambiguous", file("a,b,c\n" + "".join(f"{quoted(t)},x{i % 2},y{i % 3}\n" for i, t in enumerate(TEXTS))), {}, "Several columns of all.csv could hold the labels: b, c"),
    ("no such label column", csv_with_header, {"label_column": "mood"}, "has no column 'mood' (--usecase.label_column). Columns: id, text, label"),
    ("no such text column", csv_with_header, {"text_column": "7"}, "has no column '7' (--usecase.text_column)"),
    ("not parquet", file("PAR1 no more", "all.parquet"), {}, "all.parquet cannot be read as parquet"),
    ("not JSON", file("[\n{'a': 1}]", "all.json"), {"task": "entities"}, "It should hold a list of objects, each with a text with its entities."),
    ("a number in JSON", file('[\n1]\n', "all.json"), {"task": "classification"}, "each with a text with its label."),
    ("no list in JSON", file('{\n"a": 1}', "all.json"), {"task": "classification"}, "It should hold a list of objects, each with a text with its label."),
    ("open quote", file("text,label\n" + GOOD_ROWS + '"never,bad\n' + "a b,good\n" * 6000), {}, "all.csv line 26 opens a quotation mark that is not closed"),
    ("open quote near the end", file("text,label\n" + GOOD_ROWS + '"never,bad\na b,good\n'), {}, "all.csv line 26 opens a quotation mark that is not closed"),
    ("one class", one_class, {"tolerance": 0.5}, "There is only one class, 'good'"),
    ("no entity", file("a O\nb O\n\nc O\n" * 3, "all.txt"), {}, "No entity is marked in any of"),
    ("too few", file("text,label\none and,good\ntwo and,bad\n"), {}, "Add texts, at least three per label"),
    ("many empty", added('"",good\n' * 10), {}, "10 of 130 texts cannot be used (7.7%); --usecase.tolerance allows 5.0%"),
    ("unequal files", unequal, {}, "train_text.txt has 16 lines but train_labels.txt has 2. Each text needs a label"),
    ("entities asked of classes", csv_with_header, {"task": "entities"}, "--usecase.task entities: "),
    ("classes asked of entities", conll_space, {"task": "classification"}, "holds texts with marked entities (CoNLL columns, token 0 and tag 1, IOB2)"),
    ("no dev split", csv_with_header, {"dev_is_test": True}, "--usecase.dev_is_test: the data have no dev or validation split"),
    ("no such encoding", csv_with_header, {"encoding": "utf-9"}, "--usecase.encoding utf-9: there is no such encoding"),
    ("wrong encoding", file("".join(f"{'é' * 9} {i},a{i % 2}\n" for i in range(9)), encoding="latin-1"), {"encoding": "utf-8"}, "is not in the encoding utf-8"),
    ("no unlabelled", csv_with_header, {"unlabelled": "nowhere"}, "--usecase.unlabelled nowhere does not exist"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "settings", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_an_error_names_what_is_wrong(make: Make, settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(make(tmp_path / "data"), tmp_path / "out", **settings)
    assert words in str(caught.value)


def test_the_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="hf://nobody/nothing could not be loaded from the hub"):
        prepared("hf://nobody/nothing", tmp_path)


FOUND: list[tuple[str, Make, str, str, str]] = [
    ("empty text", added('" ",good\n'), "empty text", "all.csv line 122", "set aside"),
    ("no label", added("what of it,\n"), "text without a label", "all.csv line 122", "set aside"),
    ("short row", added("what of it\n"), "row with too few columns", "all.csv line 122", "set aside"),
    ("twin", added(MANY_ROWS.partition("\n")[0] + "\n"), "identical texts with the same labels", "all.csv line 122 = all.csv line 2", "kept, in one split"),
    ("contradiction", added('"Dull, long and loud 0",good\n'), "identical texts with different labels", "all.csv line 122 (good) = all.csv line 3 (bad): 'Dull, long", "reported"),
    ("single", added("what of it,odd\n"), "class with a single text", "odd", "kept"),
    ("spelling", added("what of it,Good\nand that,Good\nor these,Good\n"), "labels that differ only in spelling", "'Good' and 'good'", "reported"),
    ("long", added(f"{'long ' * 30_000},good\n"), "text of more than 100,000 characters", "all.csv line 122: 149,999", "truncated"),
    ("damaged", lambda p: (f := added("")(p), f.write_bytes(f.read_bytes() + b"\xff\xfe what,good\n"))[0], "unreadable characters", "all.csv: 2 in utf-8", "replaced by"),
    ("NUL", added("a\0b c,good\n"), "NUL characters", "all.csv: 1", "removed"),
    ("no JSON", lambda p: write(f := json_lines(p), f.read_text() + "{'text': 1}\n"), "line that is not a JSON object", "all.jsonl line 25: Expecting property name", "set aside"),
    ("outside", spans({"text": "in Rome", "label": [[3, 9, "LOC"]]}), "span outside the text", "all.jsonl line 7: 3 to 9 of 7 characters", "set aside"),
    ("overlap", spans({"text": "in New York", "label": [[3, 11, "LOC"], [3, 6, "PER"]]}), "spans that overlap", "all.jsonl line 7: 3 to 6 PER and 3 to 11 LOC", "the longer is kept"),
    ("unreadable span", spans({"text": "in Rome", "label": [[3, 7, "LOC"], {"start": 1, "end": 2}]}), "span that cannot be read", "has no start, end and label", "set aside"),
    ("no tag", lambda p: write(f := conll_space(p), f.read_text() + "\nRome B-LOC\nis\n"), "sentence with a line without a token and a tag", "all.txt line 39: 'is'", "set aside"),
    ("empty class", lambda p: (write(class_folders(p) / "odd" / "no" / "x.png", ""), write(p / "odd" / "y.txt", "only"))[0].parents[2], "class with a single text", "odd", "kept"),
    ("foreign file", lambda p: write(class_folders(p) / "good" / "x.png", "x").parents[1], "file that is not a text", "good/x.png", "ignored"),
    ("no labels in test", tsv_of_glue, "table without labels", "test.tsv: index, sentence", "left out"),
    ("labels held back", lambda p: (tsv_of_glue(p), write(p / "test.tsv", "sentence\tlabel\nnobody\t-1\nknows\t-1\n"))[0], "split without labels", "test: 2 texts", "left out"),
    ("class that only the test has", lambda p: (parallel(p), write(p / "test_labels.txt", "0\n2\n1\n1\n"), write(p / "mapping.txt", "0\ta\n1\tb\n2\tc\n"))[0], "class without training texts", "c", "kept"),
    ("list that does not fit", lambda p: (parallel(p), write(p / "mapping.txt", "4\ta\n5\tb\n"))[0], "list of classes that does not match the labels", "mapping.txt names 2 classes, but not 0, 1", "not used"),
    ("other file", lambda p: write(tsv_of_glue(p) / "extra.tsv", "sentence\tlabel\nx y\t1\n").parent, "file that is not part of the data set", "extra.tsv", "ignored"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "named", "action"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
def test_it_is_found_and_named(make: Make, kind: str, named: str, action: str, tmp_path: Path) -> None:
    card = prepared(make(tmp_path / "data"), tmp_path / "out", tolerance=0.2)
    kinds = {finding["kind"]: finding for finding in card["findings"]}
    assert kind in kinds, kinds
    assert any(named in example for example in kinds[kind]["examples"]), kinds[kind]
    assert action in kinds[kind]["action"]


def test_the_longer_of_two_spans_is_kept_and_outer_space_moves_them(tmp_path: Path) -> None:
    row = {"text": " \u3000in New York today ", "label": [[5, 14, "LOC"], [5, 9, "PER"], [14, 19, "DATE"]]}
    prepared(spans(*[{**row, "text": row["text"] + str(i)} for i in range(20)])(tmp_path / "data"), tmp_path / "out")
    train = Texts(tmp_path / "out" / "train")
    held = dict(zip(train.texts(range(len(train))), train.spans(range(len(train))), strict=True))
    text = next(text for text in held if text.startswith("in New York"))
    assert held[text] == [Span(3, 11, "LOC"), Span(12, 17, "DATE")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_unicode_with_and_without_marks_and_any_line_end(encoding: str, end: str, tmp_path: Path) -> None:
    data = write(tmp_path / "all.csv", ("text,label\n" + GOOD_ROWS).replace("\n", end), encoding)
    assert classes(found(data).items) == TEXTS
    tagged = write(tmp_path / "all.conll", columns("{token}\t{tag}", "IOB2").replace("\n", end), encoding)
    assert entities(found(tagged).items) == ENTITIES


FRENCH = [
    "Très bon, à revoir",
    "déjà vu, hélas",
    "l'été dernier j'ai aimé",
    "où est passé le scénario ?",
    "un élève m'a prêté ce film",
    "c'était mieux à l'époque",
]
CHINESE = [
    "这部电影非常好看，演员的表演也很自然",
    "剧情太无聊了，浪费了两个小时的时间",
    "值得再看一遍，音乐很美",
    "不推荐给任何人，结尾很糟糕",
    "导演的手法很成熟，画面很漂亮",
    "我在电影院里睡着了，真的",
]
RUSSIAN = ["Очень хороший фильм, советую всем посмотреть", "Скучно и слишком долго, жаль потраченного времени", "Прекрасная музыка и актёры", "Не понравилось совсем, сюжет слабый", "Буду смотреть ещё раз", "Ушли через полчаса, никому не советую"]  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "encoding"), [(FRENCH, "latin-1"), (FRENCH, "cp1252"), (CHINESE, "gb18030"), (CHINESE, "gbk"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8_r")]
)  # fmt: skip
def test_older_encodings_are_detected_and_reported(texts: list[str], encoding: str, tmp_path: Path) -> None:
    rows = "".join(f"{text}\t{'ab'[i % 2]}\n" for i, text in enumerate(texts))
    source = found(write(tmp_path / "all.tsv", rows, encoding))
    assert list(classes(source.items)) == texts
    assert "file in another encoding than UTF-8" in source.findings.kinds
    asked = found(tmp_path / "all.tsv", encoding=encoding)
    assert list(classes(asked.items)) == texts
    assert not asked.findings.kinds


def test_the_encoding_of_small_files_is_detected_from_all_of_them(tmp_path: Path) -> None:
    for i, text in enumerate(CHINESE):
        write(tmp_path / "data" / "ab"[i % 2] / f"{i}.TXT", text, "gbk")
    source = found(tmp_path / "data")
    assert set(classes(source.items)) == set(CHINESE)
    assert source.findings.kinds["file in another encoding than UTF-8"]["count"] == len(CHINESE)


def test_a_lone_carriage_return_and_odd_separators_part_no_lines(tmp_path: Path) -> None:
    odd = "one\rtwo\x0bthree\x85four\u2028five\u2029six"
    source = found(write(tmp_path / "all.csv", f"text,label\n{odd},good\nplain text,bad\n"))
    assert source.items[0].text == odd.replace("\r", " ")
    assert len(source.items) == 2


def test_quotes_in_a_tsv_are_plain_characters(tmp_path: Path) -> None:
    rows = '"Yes" he said\tgood\n"the never ending\tbad\nplain "quoted" words\tgood\n'
    assert [item.text for item in found(write(tmp_path / "all.tsv", rows)).items] == [
        '"Yes" he said',
        '"the never ending',
        'plain "quoted" words',
    ]


def test_text_in_class_folders_is_unchanged(tmp_path: Path) -> None:
    raw = "I saw it.<br /><br />Twice &amp; more\r\n\tEND"
    write(class_folders(tmp_path / "data") / "good" / "x.txt", raw)
    assert raw in classes(found(tmp_path / "data").items)


@pytest.mark.parametrize("layout", [*CLASS_LAYOUTS, *ENTITY_LAYOUTS], ids=lambda layout: layout.__name__)
def test_the_digest_of_the_data_notices_every_change(layout: Make, tmp_path: Path) -> None:
    data = layout(tmp_path / "data")
    more = write(tmp_path / "more.txt", "some text\n")
    settings: dict[str, Any] = {"data": str(data), "unlabelled": str(more)}
    assert not unnoticed_changes(Read(**settings), tmp_path)


def test_reports_name_lines_as_an_editor_counts_them(tmp_path: Path) -> None:
    text = 'text,label\n"over\ntwo lines",good\n\nplain,bad\n,good\n'
    source = found(write(tmp_path / "all.csv", text))
    assert [re.sub(r".* line ", "", item.name) for item in source.items] == ["2", "5", "6"]
