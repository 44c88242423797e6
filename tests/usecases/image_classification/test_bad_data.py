"""What is wrong with people's data, and how it is reported: the run is refused with a clear message, or files are set aside by name."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.contract.errors import DataError
from tests.usecases.image_classification.pictures import class_tree, encoded, picture
from tests.usecases.image_classification.test_data import idx_bytes, prepared, write_idx, write_list, write_parquet, write_splits

Make = Callable[[Path], Path]


def good(path: Path) -> Path:
    return class_tree(path, {"cat": 20, "dog": 20})


def broken_share(path: Path) -> Path:
    good(path)
    for file in sorted((path / "cat").iterdir())[:5]:
        file.write_bytes(file.read_bytes()[:60])
    return path


def loose(path: Path) -> Path:
    path.mkdir()
    picture(1).save(path / "one.png")
    return path


def archive(path: Path) -> Path:
    path.with_suffix(".zip").write_bytes(b"PK\x03\x04")
    return path.with_suffix(".zip")


def unknown(path: Path) -> Path:
    path.with_suffix(".docx").write_bytes(b"x")
    return path.with_suffix(".docx")


def truncated_idx(path: Path) -> Path:
    write_idx(path, False)
    file = path / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    return path


def truncated_gzip(path: Path) -> Path:
    write_idx(path, True)
    file = path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-100])
    return path


def unequal_idx(path: Path) -> Path:
    write_idx(path, False)
    (path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(39)))
    return path


def not_idx(path: Path) -> Path:
    write_idx(path, False)
    (path / "train-labels-idx1-ubyte").write_bytes(b"<html>not found</html>")
    return path


def no_labels_idx(path: Path) -> Path:
    write_idx(path, True)
    (path / "t10k-labels-idx1-ubyte.gz").unlink()
    return path


def no_image_column(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.mkdir()
    pq.write_table(pa.table({"name": ["a"], "label": [1]}), path / "train.parquet")
    return path


def not_parquet(path: Path) -> Path:
    path.mkdir()
    (path / "train.parquet").write_bytes(b"PAR1 and no more")
    return path


def list_of_missing(path: Path) -> Path:
    file = write_list(path, True)
    for picture_file in sorted(path.rglob("*.png"))[:4]:
        picture_file.unlink()
    return file


def list_without_images(path: Path) -> Path:
    path.mkdir()
    (path / "list.csv").write_text("name,label\nx,1\ny,2\n")
    return path / "list.csv"


def list_without_objects(path: Path) -> Path:
    path.mkdir()
    (path / "list.jsonl").write_text("1\n2\n")
    return path


def ambiguous_list(path: Path) -> Path:
    path.mkdir()
    picture(1).save(path / "a.png")
    (path / "list.csv").write_text("file,one,two\na.png,1,2\n")
    return path / "list.csv"


def empty_list(path: Path) -> Path:
    path.mkdir()
    (path / "list.csv").write_text("")
    return path / "list.csv"


REFUSED: list[tuple[str, Make, str]] = [
    ("nothing there", lambda p: p / "nowhere", "does not exist. Give a folder or file"),
    ("empty folder", lambda p: p.mkdir() or p, "it is empty. Put the images of each class into a folder of its name"),
    ("loose images", loose, "it contains files (1) but no folders"),
    ("one class", lambda p: class_tree(p, {"cat": 9}), "There is only one class, 'cat'"),
    ("too few", lambda p: class_tree(p, {"cat": 1, "dog": 1}), "Add images, at least three per class"),
    ("many truncated", broken_share, "5 of 40 images cannot be used (12.5%); --usecase.tolerance allows 5.0%"),
    ("archive", archive, "is an archive. Unpack it"),
    ("unknown file", unknown, "is not in a known format"),
    ("truncated idx", truncated_idx, "is truncated: its header announces"),
    ("truncated gzip", truncated_gzip, "is a damaged gzip file"),
    ("unequal idx", unequal_idx, "holds 40 images, but train-labels-idx1-ubyte 39 labels"),
    ("a page instead of idx", not_idx, "is not an IDX file of unsigned bytes"),
    ("idx without labels", no_labels_idx, "The labels of"),
    ("parquet without images", no_image_column, "contains image bytes. Columns: name, label"),
    ("not parquet", not_parquet, "cannot be read as parquet"),
    ("list of missing images", list_of_missing, "missing image (4): list.csv line 2: pictures/a/a_000.png"),
    (
        "list without images",
        list_without_images,
        "contains file names of images. Columns: name, label. Name it with --usecase.image_column",
    ),
    ("ambiguous list", ambiguous_list, "The column of labels in"),
    ("list without objects", list_without_objects, "It should hold a JSON object with a path and a label per line"),
    ("empty list", empty_list, "is empty. It should contain a path and a label per line"),
]


@pytest.mark.parametrize(("make", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused_before_training(make: Make, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        prepared(make(tmp_path / "data"), tmp_path / "out")
    assert words in str(refused.value)


def test_the_hub_out_of_reach_or_a_wrong_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it was read on import
    with pytest.raises(DataError, match="hf://nobody/nothing could not be loaded from the hub"):
        from usecases.image_classification import ImageClassification

        ImageClassification(data="hf://nobody/nothing").prepare(tmp_path)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column 'colour' \(--usecase.label_column\). Columns: file, label"):
        prepared(write_list(tmp_path / "data", True), tmp_path / "out", label_column="colour")


# -- set aside or reported, by name ---------------------------------------------------------------------------------------
def one_file(change: Callable[[Path], Any]) -> Make:
    def make(path: Path) -> Path:
        class_tree(path, {"cat": 30, "dog": 30})
        change(path)
        return path

    return make


def big(path: Path) -> None:
    Image.new("1", (20_000, 6_000)).save(path / "cat" / "huge.png")


def with_null(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_parquet(path)
    images = [{"bytes": encoded(picture(500 + i)), "path": None} for i in range(30)] + [{"bytes": None, "path": None}]
    pq.write_table(pa.table({"img": images, "label": [i % 2 for i in range(30)] + [None]}), path / "train-extra.parquet")
    return path


FOUND: list[tuple[str, Make, str, str, str]] = [
    ("truncated", one_file(lambda p: (p / "cat" / "cat_000.png").write_bytes(encoded(picture(1))[:80])), "unreadable image", "cat/cat_000.png: the image is damaged", "set aside"),
    ("empty file", one_file(lambda p: (p / "cat" / "cat_000.png").write_bytes(b"")), "unreadable image", "cat/cat_000.png: the file is empty", "set aside"),
    ("text as image", one_file(lambda p: (p / "dog" / "x.JPG").write_text("hello")), "unreadable image", "dog/x.JPG: this is not an image", "set aside"),
    ("bomb", one_file(big), "unreadable image", "cat/huge.png: 20000 x 6000 pixels are more than", "set aside"),
    ("foreign file", one_file(lambda p: (p / "dog" / "notes.txt").write_text("x")), "file that is not an image", "dog/notes.txt", "ignored"),
    ("empty class", one_file(lambda p: (p / "cow").mkdir()), "empty class", "cow", "left out"),
    ("one-image class", one_file(lambda p: class_tree(p, {"owl": 1}, seed=900)), "class with a single image", "owl", "used for training"),
    ("loose image", one_file(lambda p: picture(5).save(p / "loose.png")), "image outside the class folders", "loose.png", "set aside"),
    ("twins", one_file(lambda p: (p / "cat" / "twin.png").write_bytes((p / "cat" / "cat_000.png").read_bytes())), "identical images of one class", "cat/twin.png = cat/cat_000.png", "kept, in one split"),
    ("contradiction", one_file(lambda p: (p / "dog" / "z.png").write_bytes((p / "cat" / "cat_000.png").read_bytes())), "identical images with different labels", "dog/z.png (dog) = cat/cat_000.png (cat)", "reported"),
    ("spelling", one_file(lambda p: class_tree(p, {"Cat": 5}, seed=700)), "class names that differ only in spelling", "'Cat' and 'cat'", "reported"),
    ("unlabelled row", lambda p: (f := write_list(p, True), f.write_text(f.read_text() + "\npictures/a/a_000.png,\n"))[0], "row without a label", "list.csv line 22", "set aside"),
    ("null row", with_null, "row without a label", "train-extra.parquet row 30", "set aside"),
    ("class that only the test has", lambda p: class_tree(write_splits(p) / "test", {"zebra": 3}, seed=800).parent, "class without training images", "zebra", "kept"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "named", "action"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
def test_found_and_named(make: Make, kind: str, named: str, action: str, tmp_path: Path) -> None:
    card = prepared(make(tmp_path / "data"), tmp_path / "out", tolerance=0.1)
    finding = next(f for f in card["findings"] if f["kind"] == kind)
    assert any(named in example for example in finding["examples"]), finding
    assert action in finding["action"]
    assert finding["count"] == len(finding["examples"])


def test_a_damaged_gzip_of_another_kind(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", True)
    (tmp_path / "data" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x0d\x03" + b"\0" * 20))
    with pytest.raises(DataError, match="is not an IDX file of unsigned bytes"):
        prepared(tmp_path / "data", tmp_path / "out")
