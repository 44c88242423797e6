"""Every layout gives the same texts with the same classes or marked parts, and no split knows another's texts."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.usecases.nlp.texts import (
    CLASS_LAYOUTS,
    ENTITIES,
    ENTITY_LAYOUTS,
    GOOD,
    SENTENCES,
    TEXTS,
    Read,
    class_folders_with_splits,
    classes,
    columns,
    csv_with_header,
    entities,
    found,
    official_ag_news,
    parallel,
    prepared,
    quoted,
    split_column,
    tags,
    trec,
    tsv_of_glue,
    write,
)  # fmt: skip
from usecases.nlp.reading.conll import joined
from usecases.nlp.reading.schemes import Decoder
from usecases.nlp.sources import Item, Span
from usecases.nlp.texts import Texts, write_texts
from usecases.reading.splits import split_of


# -- layouts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("layout", CLASS_LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_gives_the_same_classes(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    source = found(layout(tmp_path / "data"), label_part="fine" if layout is trec else "whole")
    assert (source.task, source.multi_label) == ("classification", False)
    assert classes(source.items) == TEXTS
    assert not source.findings.unusable


@pytest.mark.parametrize("layout", ENTITY_LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_gives_the_same_entities(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    source = found(layout(tmp_path / "data"))
    assert source.task == "entities"
    assert entities(source.items) == ENTITIES
    assert not source.findings.unusable
    assert "invalid sequence of tags" not in source.findings.kinds


def test_texts_with_classes_and_spans_are_read_for_either_task(tmp_path: Path) -> None:
    rows = [{"text": text, "label": len(marked) % 2, "entities": _spans_of(text, marked)} for text, marked in ENTITIES.items()]
    data = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert classes(found(data).items) == {text: str(len(marked) % 2) for text, marked in ENTITIES.items()}
    assert entities(found(data, task="entities").items) == ENTITIES


def _spans_of(text: str, marked: list[str]) -> list[list[int | str]]:
    pairs = (one.rsplit(" ", 1) for one in marked)
    return [[text.index(surface), text.index(surface) + len(surface), kind] for surface, kind in pairs]


def test_several_columns_without_a_header_are_one_text(tmp_path: Path) -> None:
    source = found(official_ag_news(tmp_path / "data"))
    assert classes(source.items) == {text: label for text, label in TEXTS.items() if " " in text}


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (tsv_of_glue, {"train": 16, "validation": 8}),
        (split_column, {"train": 16, "validation": 4, "test": 4}),
        (parallel, {"train": 16, "validation": 4, "test": 4}),
        (class_folders_with_splits, {"train": 18, "test": 6}),
        (csv_with_header, {None: 24}),
    ],
)
def test_splits_are_detected_from_names(make: Callable[[Path], Path], sizes: dict[str | None, int], tmp_path: Path) -> None:
    assert Counter(item.split for item in found(make(tmp_path / "data")).items) == sizes


@pytest.mark.parametrize(
    ("name", "split"),
    [("emerging.dev.conll", "validation"), ("wnut17train.conll", "train"), ("eng.testb", "test"), ("test-00000-of-00001", "test"), ("TREC_10.label", "test"), ("contest.csv", None)],
)  # fmt: skip
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_a_single_file_is_read_with_the_files_next_to_it(tmp_path: Path) -> None:
    folder = parallel(tmp_path / "data")
    assert classes(found(folder / "val_text.txt").items) == dict(list(TEXTS.items())[16:20])


def test_a_header_is_distinguished_from_labels_that_are_words_of_headers(tmp_path: Path) -> None:
    rows = "".join(f"{t},{('question', 'comment')[i % 2]}\n" for i, t in enumerate(t for t in TEXTS if "," not in t and '"' not in t))
    assert {label for item in found(write(tmp_path / "a.csv", rows)).items for label in item.labels} == {"question", "comment"}
    with_index = ",text,label\n" + "".join(f"{i},{quoted(t)},{c}\n" for i, (t, c) in enumerate(TEXTS.items()))
    assert classes(found(write(tmp_path / "b.csv", with_index)).items) == TEXTS


def test_columns_by_name_or_number(tmp_path: Path) -> None:
    rows = "".join(f"x{i % 3},{t.replace(',', ' ')},{c},y{i % 2}\n" for i, (t, c) in enumerate(TEXTS.items()))
    wanted = {t.replace(",", " "): c for t, c in TEXTS.items()}
    assert classes(found(write(tmp_path / "a.csv", rows), text_column="1", label_column="2").items) == wanted
    named = write(tmp_path / "b.csv", "who,said,mood,when\n" + rows)
    assert classes(found(named, text_column="said", label_column="mood").items) == wanted
    assert found(named, text_column="who+said", label_column="mood").items[0].text.startswith("x0 A film")


def test_the_hub(tmp_path: Path) -> None:
    import datasets

    from tasks.contract.findings import Findings
    from usecases.nlp.reading.records import read_tables
    from usecases.reading.arrow import tables_of

    label = datasets.ClassLabel(names=["bad", "good"])
    rows = {"text": list(TEXTS), "label": [int(c == "good") for c in TEXTS.values()]}
    loaded = datasets.Dataset.from_dict(rows, datasets.Features(text=datasets.Value("string"), label=label))
    held_back = datasets.Dataset.from_dict({"text": ["?"], "label": [-1]}, loaded.features)
    source = read_tables(tables_of({"train": loaded, "test": held_back}), Read(), Findings())
    assert classes(source.items) == {**TEXTS, "?": ""}

    names = sorted({tag for tokens, spans in SENTENCES for tag in tags(spans, len(tokens), "IOB2")})
    numbers = [[names.index(tag) for tag in tags(spans, len(tokens), "IOB2")] for tokens, spans in SENTENCES]
    features = datasets.Features(tokens=datasets.List(datasets.Value("string")), ner_tags=datasets.List(datasets.ClassLabel(names=names)))
    loaded = datasets.Dataset.from_dict({"tokens": [tokens for tokens, _ in SENTENCES], "ner_tags": numbers}, features)
    assert entities(read_tables(tables_of({"train": loaded}), Read(), Findings()).items) == ENTITIES


# -- several labels ---------------------------------------------------------------------------------------------------
MANY = {"a b c": {"p", "q"}, "d e f": {"p"}, "g h i": set(), "j k l": {"q", "r"}}


@pytest.mark.parametrize(
    ("name", "text", "settings"),
    [
        ("a.csv", "id,text,p,q,r\n" + "".join(f"{i},{t},{','.join(str(int(n in ls)) for n in 'pqr')}\n" for i, (t, ls) in enumerate(MANY.items())), {}),
        ("a.jsonl", "".join(json.dumps({"text": t, "labels": sorted(ls)}) + "\n" for t, ls in MANY.items()), {}),
        ("a.csv", "text,labels\n" + "".join(f'{t},"{sorted(ls)}"\n' for t, ls in MANY.items()), {}),
        ("a.csv", "text,labels\n" + "".join(f"{t},{'|'.join(sorted(ls))}\n" for t, ls in MANY.items()), {"label_separator": "|"}),
        ("a.txt", "".join(" ".join([*(f"__label__{n}" for n in sorted(ls)), t]) + "\n" for t, ls in MANY.items() if ls), {}),
    ],
    ids=["columns of 0 and 1", "list in JSON", "list in a cell", "separator", "fastText"],
)  # fmt: skip
def test_a_text_may_have_several_labels(name: str, text: str, settings: dict[str, str], tmp_path: Path) -> None:
    source = found(write(tmp_path / name, text), **settings)
    assert source.multi_label
    assert {item.text: set(item.labels) for item in source.items} == {t: ls for t, ls in MANY.items() if ls or name != "a.txt"}


@pytest.mark.parametrize(
    ("multi_label", "multi", "kinds"), [("yes", True, set()), ("no", False, {"text with several labels", "text without a label"})]
)
def test_several_labels_are_a_setting_too(multi_label: str, multi: bool, kinds: set[str], tmp_path: Path) -> None:
    rows = [{"text": f"{t} {i}", "labels": sorted(ls)} for i in range(6) for t, ls in MANY.items()]
    rows += [{"text": f"m {i}", "labels": ["r"]} for i in range(6)]
    data = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    card = prepared(data, tmp_path / "out", multi_label=multi_label, tolerance=0.9)
    assert card["multi"] is multi
    assert kinds == {f["kind"] for f in card["findings"] if f["action"] == "set aside"}


def test_columns_of_0_and_1_with_one_each_are_classes(tmp_path: Path) -> None:
    rows = "".join(
        f"{quoted},{int(c == 'good')},{int(c == 'bad')}\n" for quoted, c in ((json.dumps(t.replace('"', "")), c) for t, c in TEXTS.items())
    )
    source = found(write(tmp_path / "a.csv", "text,good,bad\n" + rows))
    assert not source.multi_label
    assert set(classes(source.items).values()) == {"good", "bad"}


# -- tags and offsets -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU", "BMES"])
def test_schemes_round_trip(scheme: str) -> None:
    decoder = Decoder()
    for tokens, spans in SENTENCES:
        assert list(decoder.spans("", tags(spans, len(tokens), scheme))) == spans
    assert decoder.scheme == {"BILOU": "BIOES", "BMES": "BIOES"}.get(scheme, scheme)
    assert decoder.broken() == []


@pytest.mark.parametrize(
    ("tagged", "spans", "broken"),
    [
        ("B-A I-B O B-A", [(0, 1, "A"), (1, 2, "B"), (3, 4, "A")], 1),
        ("B-A O I-A I-A B-A I-A", [(0, 1, "A"), (2, 4, "A"), (4, 6, "A")], 1),
        ("S-A E-A O B-A I-A O", [(0, 1, "A"), (1, 2, "A"), (3, 5, "A")], 2),
        ("B-A B-A S-A O", [(0, 1, "A"), (1, 2, "A"), (2, 3, "A")], 2),
        ("B I O B", [(0, 2, "entity"), (3, 4, "entity")], 0),
    ],
)
def test_broken_sequences_are_read_as_conlleval_reads_them(tagged: str, spans: list[tuple[int, int, str]], broken: int) -> None:
    decoder = Decoder()
    assert list(decoder.spans("line 1", tagged.split())) == spans
    assert len(decoder.broken()) == broken


def test_invalid_sequences_are_counted(tmp_path: Path) -> None:
    text = columns("{token} {tag}", "IOB2") + "\nIn O\nRome I-LOC\nand O\n"
    source = found(write(tmp_path / "a.txt", text))
    assert entities(source.items)["In Rome and"] == ["Rome LOC"]
    assert source.findings.kinds["invalid sequence of tags"]["count"] == 1
    assert source.findings.kinds["invalid sequence of tags"]["examples"] == [f"a.txt line {text.count(chr(10)) - 2}"]


def test_types_without_prefixes(tmp_path: Path) -> None:
    lines = "".join("\n".join(f"{t} {g[2:] or 'O'}" for t, g in zip(tokens, tags(spans, len(tokens), "IOB2"), strict=True)) + "\n\n" for tokens, spans in SENTENCES)  # fmt: skip
    read = entities(found(write(tmp_path / "a.txt", lines)).items)
    assert {text: marked for text, marked in read.items() if "Bergen" not in text} == {
        text: marked for text, marked in ENTITIES.items() if "Bergen" not in text
    }
    assert read["Oslo Bergen and Rome"] == ["Oslo Bergen LOC", "Rome LOC"]


def test_characters_with_a_digit_of_segmentation(tmp_path: Path) -> None:
    text = "科0\tO\n技1\tO\n　0\tO\n王0\tB-PER.NAM\n明1\tI-PER.NAM\n\t\n2 0\tO\n".replace("2 0\tO\n", "20\tO\n00\tO\n年0\tO\n")
    assert entities(found(write(tmp_path / "train.conll", text)).items) == {"科技　王明": ["王明 PER.NAM"], "20年": []}


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["我", "们", "去", "。"], "我们去。"),
        (["在", "New", "York", "的", "家"], "在 New York 的 家".replace("的 家", "的家")),
        (["東", "京", "タワー"], "東京タワー"),
        (["나는", "학교에"], "나는 학교에"),
        (["e\u0301t", "😀", "👩‍💻", "!"], "e\u0301t 😀 👩‍💻 !"),
    ],
)
def test_tokens_become_text_as_it_was_written(tokens: list[str], text: str) -> None:
    written, starts, ends = joined(tokens)
    assert written == text
    assert [written[start:end] for start, end in zip(starts, ends, strict=True)] == tokens


# -- prepared ---------------------------------------------------------------------------------------------------------
def test_texts_come_back_from_disk(tmp_path: Path) -> None:
    items = [Item(f"line {i}", text + "\u2028 ", (), (Span(0, 1, "X"), Span(2, 3, "Ω"))) for i, text in enumerate(TEXTS)]
    write_texts(tmp_path, items, entities=True)
    texts = pickle.loads(pickle.dumps(Texts(tmp_path)))
    order = np.array([5, 0, 23])
    assert len(texts) == 24
    assert texts.texts(order) == [items[i].text for i in order]
    assert texts.names(order) == ["line 5", "line 0", "line 23"]
    assert texts.spans([1]) == [[Span(0, 1, "X"), Span(2, 3, "Ω")]]


def test_what_is_written(tmp_path: Path) -> None:
    card = prepared(parallel(tmp_path / "data"), tmp_path / "out")
    assert card["sizes"] == {"train": 16, "validation": 4, "test": 4}
    assert (card["task"], card["multi"], card["labels"], card["findings"]) == ("classification", False, ["bad", "good"], [])
    assert card["counts"]["test"] == {"bad": 2, "good": 2}
    assert card["characters"].startswith("median ")
    known = {"task": "classification", "labels": ["bad", "good"], "multi": False, "texts": 16, "counts": {"bad": 8, "good": 8}}
    assert json.loads((tmp_path / "out" / "assets" / "labels.json").read_text()) == known
    test = Texts(tmp_path / "out" / "test")
    assert dict(zip(test.texts(range(4)), test.labels(range(4)), strict=True)) == {t: [c] for t, c in list(TEXTS.items())[20:]}
    assert (tmp_path / "out" / "example.txt").read_text(encoding="utf-8") in test.texts(range(4))


def test_a_dev_split_may_be_the_test(tmp_path: Path) -> None:
    data = tsv_of_glue(tmp_path / "data")
    usual = prepared(data, tmp_path / "a")
    assert usual["sizes"]["validation"] == 8
    card = prepared(data, tmp_path / "b", dev_is_test=True)
    assert card["sizes"]["test"] == 8
    assert all(name.startswith("dev.tsv") for name in Texts(tmp_path / "b" / "test").names(range(8)))
    assert card["sizes"]["train"] + card["sizes"]["validation"] == 16


def test_copies_stay_in_one_split_and_given_splits_are_whole(tmp_path: Path) -> None:
    doubled = "text,label\n" + "".join(f"{json.dumps(t.replace(chr(34), ''))},{c}\n" * 3 for t, c in TEXTS.items())
    card = prepared(write(tmp_path / "a.csv", doubled), tmp_path / "out")
    splits = [set(Texts(tmp_path / "out" / split).texts(range(size))) for split, size in card["sizes"].items()]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 24
    assert sum(card["sizes"].values()) == 72

    data = write(tmp_path / "data" / "train.csv", doubled).parent
    write(data / "test.csv", f"text,label\n{GOOD[0].replace(',', '')},good\n{GOOD[5].replace(',', '')},good\nno,bad\n")
    write(data / "train.csv", doubled + f"{GOOD[5].replace(',', '')},good\n")
    card = prepared(data, tmp_path / "other")
    assert card["sizes"]["test"] == 3
    assert {f["kind"]: f["examples"] for f in card["findings"]}["identical text in two splits"] == ["train.csv line 74 = test.csv line 3"]


def test_labels_that_are_numbers_are_sorted_as_such(tmp_path: Path) -> None:
    rows = "".join(f"{stars},{word} {text}\n" for stars in (10, 9, 1) for word in "abc" for text in ("of all", "by far"))
    assert prepared(write(tmp_path / "a.csv", "rating,text\n" + rows), tmp_path / "out")["labels"] == ["1", "9", "10"]


def test_parts_of_labels(tmp_path: Path) -> None:
    data = trec(tmp_path / "data")
    assert {label for item in found(data).items for label in item.labels} == {"ENTY:good", "DESC:bad"}
    assert {label for item in found(data, label_part="coarse").items for label in item.labels} == {"ENTY", "DESC"}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "one line\nanother line\n\n", ["one line", "another line"]),
        ("a.txt", "one\nparagraph\n\nand\nanother\n", ["one\nparagraph", "and\nanother"]),
        ("a.csv", "id,review\n1,first\n2,second\n", ["first", "second"]),
        ("a.jsonl", '{"text": "first"}\n{"text": "second"}\n', ["first", "second"]),
    ],
)
def test_texts_without_labels(name: str, text: str, expected: list[str], tmp_path: Path) -> None:
    more = write(tmp_path / "more" / name, text)
    write(tmp_path / "more" / "held.txt", "\n".join(TEXTS))
    for unlabelled in (more, more.parent):
        card = prepared(parallel(tmp_path / "data"), tmp_path / "out", unlabelled=str(unlabelled))
        read = [json.loads(line)["text"] for line in (tmp_path / "out" / "unlabelled.jsonl").read_text().splitlines()]
        assert read[: len(expected)] == expected
        assert len(read) == card["unlabelled"] == len(expected) + (16 if unlabelled.is_dir() else 0)


@pytest.mark.parametrize("task", ["auto", "entities"])
def test_the_sample(task: str, tmp_path: Path) -> None:
    card = prepared("sample", tmp_path / "out", task=task)
    assert sum(card["sizes"].values()) == 1500
    assert not card["findings"]
    assert len(card["labels"]) == (4 if task == "entities" else 6)
    texts = Texts(tmp_path / "out" / "train")
    every = range(len(texts))
    if task == "entities":
        for text, spans in zip(texts.texts(every), texts.spans(every), strict=True):
            assert all(text[s.start : s.end].strip() == text[s.start : s.end] != "" for s in spans)
    assert sum(any("\u4e00" <= c <= "\u9fff" for c in text) for text in texts.texts(every)) == pytest.approx(0.4 * len(texts), rel=0.1)


def test_the_sample_is_neither_trivial_nor_hopeless() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import RidgeClassifier

    items = found("sample").items
    texts, labels = [item.text for item in items], np.array([item.labels[0] for item in items])
    counted = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), min_df=2).fit_transform(texts)
    answers = RidgeClassifier().fit(counted[:1000], labels[:1000]).predict(counted[1000:])
    assert 0.75 < np.mean(answers == labels[1000:]) < 0.97
