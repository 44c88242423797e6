"""The readers of files that all verticals share."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.image_classification import ImageClassification
from usecases.image_classification.layouts import find_source
from usecases.nlp import TextClassification
from usecases.reading.archives import read_unpacked
from usecases.reading.encodings import TextFile, guessed
from usecases.reading.files import files_below
from usecases.reading.splits import split_of, split_of_cell, split_of_folder, splits_of_siblings
from usecases.reading.tables import dialect_of, named_rows
from usecases.recommendation import Recommendation
from usecases.recommendation.layouts import find_log

CZECH = "červená zelená žlutý kůň večer čas dům tři měsíce příliš"
POLISH = "był żółty wąż mógł się uczyć zażółć gęślą"
FRENCH = "père crème où cœur poème siège forêt naïve Noël près à côté"
CATALAN = "història òpera còmic època què això però camí"
DANISH = "rødgrød med fløde på smørrebrød og grøn saft ved søen i år"
SPANISH = "¿Qué año? ¿Dónde está? mañana señor ¿sí?"


@pytest.mark.parametrize(
    ("text", "written"),
    [(CZECH, "cp1250"), (POLISH, "cp1250"), (FRENCH, "cp1252"), (CATALAN, "cp1252"), (DANISH, "cp1252"), (SPANISH, "cp1252")],
)
def test_encodings_of_accented_latin_are_detected(text: str, written: str) -> None:
    lines = [f"picture_{number}.jpg,{word},some words in plain letters".encode(written) for number, word in enumerate(text.split())]
    assert guessed(lines) == written


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("eng.testa", "validation"), ("TREC_10.label", "test"), ("t10k-images-idx3-ubyte", "test"), ("Final_Training", "train"), ("classes", None),
        (Path("train/night/a.png"), "train"), (Path("test/annotations/instances_val2017.json"), "validation"), (Path("contest/latest"), None),
    ],
)  # fmt: skip
def test_the_split_is_that_of_the_innermost_name(name: str | Path, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train", "valid", "test"], ["train", "validation", "test"]),
        (["Final_Training", "Final_Test"], ["train", "test"]),
        (["train2017", "val2017"], ["train", "validation"]),
        (["Training Set", "test-images (2)", "dev_data"], ["train", "test", "validation"]),
        (["train_val", "obj_train_data", "test-00000-of-00001"], ["train", "train", "test"]),
        (["seg_train", "seg_test", "seg_pred"], ["train", "test", None]),
        (["asl_alphabet_train", "test"], [None, "test"]),
        (["test-tube", "training_shoes", "running_shoes"], [None, None, None]),
        (["test-tube", "test-tube-2020"], [None, None]),
        (["train_test_split", "images", "2017", "contest", "development_aid"], [None, None, None, None, None]),
    ],
)
def test_folders_are_named_after_splits_by_whole_names(names: list[str], splits: list[str | None]) -> None:
    found = splits_of_siblings(names)
    assert [found.get(name) for name in names] == splits
    alone = [split_of_folder(Path("data") / name / "images") for name in names]
    assert alone == [None if name.startswith("seg") else split for name, split in zip(names, splits, strict=True)]


@pytest.mark.parametrize("kind", [ImageClassification, TextClassification])
def test_a_class_whose_name_holds_a_split_is_a_class(kind: type[ImageClassification | TextClassification], tmp_path: Path) -> None:
    from usecases.nlp.reading import layouts as texts

    classes = ("test-tube", "training_shoes", "vase")
    for label in classes:
        for part in ("a", "b"):
            (tmp_path / label / part).mkdir(parents=True)
            for name in ("test-tube_1.txt", "test-tube_2.txt", "test-tube_1.png"):
                (tmp_path / label / part / name).write_text(f"{label} {part} {name}")
    usecase = kind(data=str(tmp_path))
    if isinstance(usecase, TextClassification):
        found = {(*item.labels, item.split) for item in texts.find_source(usecase).items}
    else:
        found = {(item.label, item.split) for item in find_source(usecase).items}
    assert found == {(label, None) for label in classes}


def test_a_column_of_splits_names_them() -> None:
    assert [split_of_cell("Split", " Val "), split_of_cell("is_valid", True), split_of_cell("is_valid", "0"), split_of_cell("fold", 3)] == [
        "validation", "validation", "train", None,
    ]  # fmt: skip


def test_all_verticals_read_a_list_in_an_old_encoding_alike(tmp_path: Path) -> None:
    words = CZECH.split()
    (tmp_path / "list.csv").write_bytes("".join(["path,label\n", *(f"{i}.png,{w}\n" for i, w in enumerate(words))]).encode("cp1250"))
    for number in range(len(words)):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    source = find_source(ImageClassification(data=str(tmp_path / "list.csv")))
    (tmp_path / "log.csv").write_bytes("".join(["user,item\n", *(f"{i};x,{w}\n" for i, w in enumerate(words))]).encode("cp1250"))
    findings = Findings()
    log = find_log(Recommendation(data=str(tmp_path / "log.csv")), findings)
    assert [item.label for item in source.items] == log.events.collect()["item"].to_list() == words
    for found in (source.findings, findings):
        assert found.kinds["file in another encoding than UTF-8"]["examples"][0].endswith("read as cp1250")
    asked = find_log(Recommendation(data=str(tmp_path / "log.csv"), encoding="cp1252"), Findings())
    assert asked.events.collect()["item"][0] == "èervená"


@pytest.mark.parametrize(("encoding", "end"), [("utf-16", "\n"), ("latin-1", "\r\n"), ("utf-8", "\r"), ("utf-8", "\n")])
def test_readers_of_utf8_get_a_copy_only_where_they_need_one(encoding: str, end: str, tmp_path: Path) -> None:
    text = 'a,b\n1,"caf\u00e9\nnoir"\n'
    (tmp_path / "file.csv").write_bytes(text.replace("\n", end).encode(encoding))
    file = TextFile(tmp_path / "file.csv", "", Findings())
    copy = file.as_utf8()
    assert copy.read_text(encoding="utf-8") == text
    assert (copy == file.path) == (encoding == "utf-8" and end == "\n")
    del file
    assert copy.exists() == (copy == tmp_path / "file.csv")


def test_a_link_that_is_pointed_elsewhere_is_looked_at_again(tmp_path: Path) -> None:
    link, found = tmp_path / "now.txt", []
    for name, content in (("v1.txt", b"plain ascii text\n"), ("v2.txt", "caf\u00e9 noir, cr\u00e8me".encode("cp1252"))):
        (tmp_path / name).write_bytes(content.ljust(20))
        os.utime(tmp_path / name, ns=(1, 1))
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        found.append(TextFile(link, "", Findings()).encoding)
    assert found == ["utf-8", "cp1252"]


def test_quotation_marks_hold_cells_together_where_they_are_used_so(tmp_path: Path) -> None:
    assert dialect_of(['a|"b" c|d', "e|f|g"]).quoted is False
    assert dialect_of(['a|"b|c"|d', "e|f|g"]).quoted is True
    (tmp_path / "classes.csv").write_text("name, r , g, b\nRoad, 1, 2, 3\n\n")
    assert list(named_rows(tmp_path / "classes.csv", "", Findings())) == [{"name": "Road", "r": " 1", "g": " 2", "b": " 3"}]


def test_gzip_files_are_unpacked_within_limits(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for data in (b"plain", gzip.compress(b"pl") + gzip.compress(b"ain")):
        file.write_bytes(data)
        assert read_unpacked(file, limit=5) == b"plain"
    with pytest.raises(DataError, match="unpacks to more than 4 bytes"):
        read_unpacked(file, limit=4)


def test_hidden_folders_and_circular_links_are_ignored(tmp_path: Path) -> None:
    for name in ("a/x.txt", "a/.hidden/y.txt", "__MACOSX/z.txt", "a/Thumbs.db", "b/c/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "c").symlink_to(tmp_path / "b" / "c", target_is_directory=True)
    assert [str(p.relative_to(tmp_path)) for p in files_below(tmp_path)] == ["a/c/x.txt", "a/x.txt", "b/c/x.txt"]
    assert len(files_below(tmp_path, with_hidden=True)) == 6
